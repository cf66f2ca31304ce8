"""Where a program begins with a Kubernetes API: finding it, and opening a client of it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tunneld.configfile import ConfigError
from tunneld.kube.access import Access
from tunneld.kube.extra import require
from tunneld.kube.incluster import SOURCE, in_cluster
from tunneld.kube.kubeconfig import load_kubeconfig
from tunneld.schema import Problem

if TYPE_CHECKING:
    from tunneld.kube.client import KubeClient


def load_access(kubeconfig: str) -> Access:
    """The API that ``kubeconfig`` (a path) names; "" means the one of the cluster we run in.

    Raises:
      ConfigError: it cannot be told, the packages for it are not installed, or the environment
        names a proxy of an unknown kind.
    """
    require("httpx", kubeconfig or SOURCE)
    access = load_kubeconfig(Path(kubeconfig)) if kubeconfig else in_cluster()
    _check_proxies(access)
    return access


def _check_proxies(access: Access) -> None:
    import httpx

    from tunneld.kube.client import KubeClient

    try:
        KubeClient(access)  # which reads the environment
    except (ImportError, ValueError, httpx.InvalidURL) as exc:
        what = f"names a proxy that cannot be used: {exc}"
        raise ConfigError("environment", [Problem("", what)]) from exc


@asynccontextmanager
async def open_client(
    access: Access, *, qps: float = 0, burst: int = 0
) -> "AsyncIterator[KubeClient]":
    """A client of the API, closed in the end; opening it sends nothing.

    Args:
      qps, burst: as ``--kubeconfig-qps`` and ``--kubeconfig-burst``: requests a second, and at once
        after a pause; 0 for 5 and 10.
    """
    from tunneld.kube.client import KubeClient

    async with KubeClient(access, qps=qps, burst=burst) as client:
        yield client
