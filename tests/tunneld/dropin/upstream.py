"""What ``--help`` of konnectivity's programs lists at v0.36.0: flag, type, default.

The defaults of ids are left out, they are drawn.
"""

KLOG = """
add-dir-header
alsologtostderr
alsologtostderrthreshold severity
legacy-stderr-threshold-behavior = true
log-backtrace-at traceLocation = :0
log-dir string
log-file string
log-file-max-size uint = 1800
logtostderr = true
one-output
skip-headers
skip-log-headers
stderrthreshold severity = 2
v Level = 4
vmodule moduleSpec
"""

SERVER = """
admin-bind-address string = "127.0.0.1"
admin-port int = 8095
agent-bind-address string
agent-namespace string
agent-port int = 8091
agent-service-account string
authentication-audience string
backend-dial-timeout duration
cipher-suites strings
cluster-ca-cert string
cluster-cert string
cluster-key string
delete-existing-uds-file = true
enable-contention-profiling
enable-lease-controller
enable-profiling
frontend-keepalive-time duration = 1h0m0s
graceful-shutdown-timeout duration
health-bind-address string
health-port int = 8092
keepalive-time duration = 1h0m0s
kube-api-content-type string = "application/vnd.kubernetes.protobuf"
kubeconfig string
kubeconfig-burst int
kubeconfig-qps float32
lease-label string = "k8s-app=konnectivity-server"
lease-namespace string = "kube-system"
mode string = "grpc"
proxy-strategies string = "default"
server-bind-address string
server-ca-cert string
server-cert string
server-count int = 1
server-id string
server-key string
server-port int = 8090
tls-min-version string
uds-name string
xfr-channel-size int = 10
"""

AGENT = """
admin-bind-address string = "127.0.0.1"
admin-server-port int = 8094
agent-cert string
agent-id string
agent-identifiers string
agent-key string
alpn-proto strings
ca-cert string
count-server-leases
enable-contention-profiling
enable-profiling
health-server-host string
health-server-port int = 8093
keepalive-time duration = 1h0m0s
kube-api-content-type string = "application/vnd.kubernetes.protobuf"
kubeconfig string
lease-label string = "k8s-app=konnectivity-server"
lease-namespace string = "kube-system"
probe-interval duration = 1s
proxy-server-host string = "127.0.0.1"
proxy-server-port int = 8091
server-count-source string = "default"
service-account-token-path string
sync-forever
sync-interval duration = 1s
sync-interval-cap duration = 10s
warn-on-channel-limit
xfr-channel-size int = 150
"""

Row = tuple[str, str, str]
"""Name, type ("" is a boolean), default as text ("" is that of the type: nothing, 0 or false)."""


def rows(listing: str) -> list[Row]:
    """The rows of a listing as above."""
    found = []
    for line in filter(None, listing.splitlines()):
        words, _, default = line.partition(" = ")
        name, _, kind = words.partition(" ")
        found.append((name, kind, default.strip('"')))
    return found
