"""What proxy-server and proxy-agent ask a Kubernetes API: leases and token reviews.

`load_access` finds the API, `open_client` opens a client of it, and the rest take that client.
httpx and PyYAML, which only the extra ``kubernetes`` installs, are imported by these two alone.
"""

from tunneld.kube.access import Access
from tunneld.kube.errors import KubeError, TokenRefusedError
from tunneld.kube.lease import parse_labels
from tunneld.kube.leasecontroller import LeaseController
from tunneld.kube.leasecounter import LeaseCounter
from tunneld.kube.opening import load_access, open_client
from tunneld.kube.tokens import TokenReviewer

__all__ = [
    "Access",
    "KubeError",
    "LeaseController",
    "LeaseCounter",
    "TokenRefusedError",
    "TokenReviewer",
    "load_access",
    "open_client",
    "parse_labels",
]
