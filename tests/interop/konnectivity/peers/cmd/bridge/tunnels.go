package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"net"
	"os"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"sigs.k8s.io/apiserver-network-proxy/konnectivity-client/pkg/client"
)

// setupTimeout is for the connection to the server, as kube-apiserver has it.
const setupTimeout = 30 * time.Second

// proxyFlags say where the server is: HOST:PORT with mutual TLS, or the path of a UNIX socket.
type proxyFlags struct {
	address, caCert, cert, key string
}

func (p *proxyFlags) register(flags *flag.FlagSet) {
	flags.StringVar(&p.address, "proxy", "", "HOST:PORT, or the path of a UNIX socket")
	flags.StringVar(&p.caCert, "ca-cert", "", "certificates that the server's has to come from")
	flags.StringVar(&p.cert, "cert", "", "certificate of the client")
	flags.StringVar(&p.key, "key", "", "its key")
}

// dialOptions are those of kube-apiserver's egress selector.
func (p *proxyFlags) dialOptions() ([]grpc.DialOption, error) {
	options := []grpc.DialOption{grpc.WithBlock(), grpc.WithReturnConnectionError()} //nolint:staticcheck
	if p.caCert == "" {
		unix := func(ctx context.Context, path string) (net.Conn, error) {
			var dialer net.Dialer
			return dialer.DialContext(ctx, "unix", path)
		}
		return append(options, grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithContextDialer(unix)), nil
	}
	config, err := p.tlsConfig()
	if err != nil {
		return nil, err
	}
	return append(options, grpc.WithTransportCredentials(credentials.NewTLS(config))), nil
}

func (p *proxyFlags) tlsConfig() (*tls.Config, error) {
	authority, err := os.ReadFile(p.caCert)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(authority) {
		return nil, errors.New("no certificate in " + p.caCert)
	}
	certificate, err := tls.LoadX509KeyPair(p.cert, p.key)
	if err != nil {
		return nil, err
	}
	return &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{certificate}}, nil
}

type dialer interface {
	dial(ctx context.Context, address string) (net.Conn, error)
}

// singleUse makes a tunnel for each dial, as all releases of kube-apiserver do.
type singleUse struct {
	address string
	options []grpc.DialOption
}

func (s *singleUse) dial(ctx context.Context, address string) (net.Conn, error) {
	setup, cancel := context.WithTimeout(ctx, setupTimeout)
	defer cancel()
	tunnel, err := client.CreateSingleUseGrpcTunnelWithContext(setup, context.Background(), s.address, s.options...)
	if err != nil {
		return nil, err
	}
	return tunnel.DialContext(ctx, "tcp", address)
}

// shared makes one tunnel for all dials, and another once that one cannot open a stream.
type shared struct {
	address string
	options []grpc.DialOption
	mutex   sync.Mutex
	tunnel  client.ReusableTunnel
}

func (s *shared) dial(ctx context.Context, address string) (net.Conn, error) {
	tunnel, err := s.current(ctx)
	if err != nil {
		return nil, err
	}
	conn, err := tunnel.DialContext(ctx, "tcp", address)
	if _, reason := client.GetDialFailureReason(err); err != nil && reason == "streamsetup" {
		s.drop(tunnel)
	}
	return conn, err
}

func (s *shared) current(ctx context.Context) (client.ReusableTunnel, error) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if s.tunnel == nil {
		setup, cancel := context.WithTimeout(ctx, setupTimeout)
		defer cancel()
		tunnel, err := client.CreateGRPCTunnel(setup, s.address, s.options...)
		if err != nil {
			return nil, err
		}
		s.tunnel = tunnel
	}
	return s.tunnel, nil
}

func (s *shared) drop(tunnel client.ReusableTunnel) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if s.tunnel == tunnel {
		s.tunnel = nil
		go tunnel.Close()
	}
}
