"""Connections through an HTTP proxy or inside a WebSocket, made by the agent's own code."""

import queue
import socket
import threading
from collections.abc import Mapping
from urllib.parse import quote_from_bytes

import msgspec
import trio

from tunneld.agent.dialout import Dialout
from tunneld.agent.link import LINK_ERRORS, reason_of
from tunneld.config import AgentConfig
from tunneld.proxyurl import Proxy, proxy_for
from tunneld.serverurl import ServerUrl

TIMEOUT = 10.0
"""Seconds for the way, and then for each step of the TLS on it."""

_Outcome = queue.SimpleQueue[socket.socket | OSError]


def open_roundabout(
    config: AgentConfig, server: ServerUrl, environ: Mapping[str, str]
) -> socket.socket:
    """A blocking socket to the server. What carries its octets runs in a thread of its own, which
    ends with the socket.

    Args:
      environ: of the agent's process.
    Raises:
      OSError: that failed, with a text that says where.
    """
    outcome: _Outcome = queue.SimpleQueue()
    config = _settled(config, server, environ)
    threading.Thread(
        target=trio.run, args=(_carry, Dialout(config, server, str), outcome), daemon=True
    ).start()
    try:
        found = outcome.get(timeout=2 * TIMEOUT)
    except queue.Empty:
        raise TimeoutError(f"no way to {server} in {2 * TIMEOUT:g} s") from None
    if isinstance(found, OSError):
        raise found
    found.settimeout(TIMEOUT)
    return found


def _settled(config: AgentConfig, server: ServerUrl, environ: Mapping[str, str]) -> AgentConfig:
    """The agent's environment need not be ours: the proxy is named in its place."""
    proxy = proxy_for(config.http_proxy, server.address, environ)
    if proxy is None:
        return msgspec.structs.replace(config, http_proxy="")
    return msgspec.structs.replace(config, http_proxy=_url(proxy))


def _url(proxy: Proxy) -> str:
    """As a configuration has it, credentials included."""
    user, colon, password = proxy.credentials.partition(b":")
    userinfo = f"{quote_from_bytes(user, '')}:{quote_from_bytes(password, '')}@" if colon else ""
    return f"{proxy.scheme}://{userinfo}{proxy.address}"


async def _carry(dialout: Dialout, outcome: _Outcome) -> None:
    async with trio.open_nursery() as pumps:
        try:
            sock = await dialout.open(pumps, trio.current_time() + TIMEOUT)
        except LINK_ERRORS as exc:
            outcome.put(OSError(reason_of(exc)))
        else:
            outcome.put(sock)
