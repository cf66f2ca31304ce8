// Command bridge dials through a konnectivity server with the published client library, for tests
// that are written in another language.
//
// It listens on a UNIX socket; each connection there is one dial. The test sends one line of JSON,
//
//	{"address": "HOST:PORT", "timeout": SECONDS}
//
// and gets one: {} and then the octets of the tunnelled connection, both ways, or
// {"error": TEXT, "reason": REASON} and the end. A timeout of 0 is none but the library's own. Hanging
// up before the answer abandons the dial; hanging up after it closes the tunnelled connection. What
// the library says of a close goes to stderr, as "closed ADDRESS: TEXT".
//
// It prints "ready" once it listens, and ends by any signal.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"time"

	"sigs.k8s.io/apiserver-network-proxy/konnectivity-client/pkg/client"
)

// chunkSize is what one Write of ours has at most, and so one DATA packet: io.Copy's size, which
// HTTP clients that use the library write too.
const chunkSize = 32 << 10

type request struct {
	Address string  `json:"address"`
	Timeout float64 `json:"timeout"`
}

type answer struct {
	Error  string `json:"error,omitempty"`
	Reason string `json:"reason,omitempty"`
}

func main() {
	log.SetFlags(log.Ltime | log.Lmicroseconds)
	listen := flag.String("listen", "", "path of the UNIX socket for the test")
	var proxy proxyFlags
	proxy.register(flag.CommandLine)
	reusable := flag.Bool("reusable", false, "use one reusable tunnel, not one for each dial")
	flag.Parse()
	options, err := proxy.dialOptions()
	if err != nil {
		log.Fatal(err)
	}
	var tunnels dialer = &singleUse{proxy.address, options}
	if *reusable {
		tunnels = &shared{address: proxy.address, options: options}
	}
	listener, err := net.Listen("unix", *listen)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("ready")
	for {
		local, err := listener.Accept()
		if err != nil {
			log.Fatal(err)
		}
		go serve(local.(*net.UnixConn), tunnels)
	}
}

// serve runs one dial and what comes of it.
func serve(local *net.UnixConn, tunnels dialer) {
	defer local.Close()
	reader := bufio.NewReaderSize(local, chunkSize)
	var wanted request
	line, err := reader.ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &wanted)
	}
	if err != nil {
		log.Printf("bad request: %v", err)
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	if wanted.Timeout > 0 {
		ctx, cancel = context.WithTimeout(ctx, time.Duration(wanted.Timeout*float64(time.Second)))
	}
	defer cancel()
	watched := make(chan struct{})
	go func() { // until the test sends something or hangs up
		defer close(watched)
		if _, err := reader.Peek(1); err != nil {
			cancel()
		}
	}()
	remote, err := tunnels.dial(ctx, wanted.Address)
	if err := json.NewEncoder(local).Encode(describe(err)); err != nil && remote != nil {
		log.Printf("answer: %v", err)
	}
	if remote != nil {
		relay(local, reader, watched, remote, wanted.Address)
	}
}

func describe(err error) answer {
	if err == nil {
		return answer{}
	}
	_, reason := client.GetDialFailureReason(err)
	return answer{err.Error(), string(reason)}
}

// relay copies until the test hangs up. When the tunnelled connection ends first, the test reads an
// end of file, and what it still sends goes nowhere.
func relay(local *net.UnixConn, reader io.Reader, watched <-chan struct{}, remote net.Conn, address string) {
	down := make(chan struct{})
	go func() {
		defer close(down)
		_, err := io.CopyBuffer(writerOnly{local}, remote, make([]byte, chunkSize))
		if err != nil { // the test has hung up: read on, or the library takes us for stalled
			_, _ = io.Copy(io.Discard, remote)
		}
		_ = local.CloseWrite()
	}()
	<-watched
	_, err := io.CopyBuffer(remote, readerOnly{reader}, make([]byte, chunkSize))
	if err != nil { // the tunnelled connection is over: until the test hangs up
		_, _ = io.Copy(io.Discard, reader)
	}
	if err := remote.Close(); err != nil {
		log.Printf("closed %s: %v", address, err)
	}
	<-down
}

// writerOnly and readerOnly hide the methods by which io.Copy would choose its own chunks.
type writerOnly struct{ io.Writer }

type readerOnly struct{ io.Reader }
