"""The Kubernetes API as the programs use it, if they do; its packages are imported only then."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from tunneld.dropin.program import StartError

if TYPE_CHECKING:
    from tunneld.kube.client import KubeClient


@asynccontextmanager
async def open_kubernetes(
    kubeconfig: str, *, qps: float = 0, burst: int = 0
) -> AsyncIterator["KubeClient"]:
    """A client of the API that the file ``kubeconfig`` names, "" for that of our own cluster.

    Args:
      qps, burst: as the flags; 0 for the defaults.
    Raises:
      StartError: it is not known how to reach one.
    """
    from tunneld.configfile import ConfigError
    from tunneld.kube import load_access, open_client

    try:
        access = load_access(kubeconfig)
    except ConfigError as exc:
        raise StartError(f"failed to load kubernetes client config: {exc}") from exc
    async with open_client(access, qps=qps, burst=burst) as client:
        yield client
