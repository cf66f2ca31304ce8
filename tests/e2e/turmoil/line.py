"""Ways for a client to a tunnelled connection: CONNECT of HTTP/1.1, and of HTTP/2."""

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trio
from h2.exceptions import H2Error

from tests.tunneld.peers import ESTABLISHED, H2Client, Peer, TlsPeer, client_context, connect


class RefusedError(Exception):
    """No connection; the text is why."""


class Frontend:
    """Where clients connect, and by what certificates.

    Args:
      address: host and port.
    """

    def __init__(self, address: tuple[str, int], pki: Path) -> None:
        self._address = address
        self._pki = pki
        self._contexts: dict[bool, ssl.SSLContext] = {}
        self.renew()

    def renew(self) -> None:
        """Use the certificates that there are now."""
        self._contexts = {
            False: client_context(self._pki),
            True: client_context(self._pki, "h2"),
        }

    @asynccontextmanager
    async def open(
        self, destination: str, timeout: float, *, http2: bool = False
    ) -> AsyncIterator[Peer]:
        """A tunnelled connection, while the block runs; it is then closed as it is.

        Raises:
          RefusedError: there is none to be had.
        """
        refused = None
        peer = None
        async with trio.open_nursery() as nursery:
            try:
                with trio.fail_after(timeout):
                    peer = await self._connect(http2)
                    line = await _dial(peer, destination, nursery if http2 else None)
            except trio.TooSlowError:
                refused = RefusedError(f"no answer in {timeout:g} s")
            except (OSError, trio.BrokenResourceError, H2Error) as exc:
                refused = RefusedError(f"{type(exc).__name__}: {exc}")
            except RefusedError as exc:
                refused = exc
            else:
                yield line
            nursery.cancel_scope.cancel()
        if peer is not None:
            await trio.aclose_forcefully(peer.stream)
        if refused is not None:
            raise refused

    async def _connect(self, http2: bool) -> TlsPeer:
        stream = await trio.open_tcp_stream(*self._address)
        peer = TlsPeer(stream, self._contexts[http2], self._address[0])
        try:
            await peer.handshake()
        except BaseException:
            await trio.aclose_forcefully(stream)
            raise
        return peer


async def _dial(peer: TlsPeer, destination: str, nursery: trio.Nursery | None) -> Peer:
    if nursery is None:
        reply = await connect(peer, destination)
        if reply != ESTABLISHED:
            raise RefusedError(reply.partition(b"\r\n")[0].decode(errors="replace") or "closed")
        return peer
    client = H2Client(peer, nursery)
    await client.start({})
    stream = await client.connect(destination)
    status = (await stream.response())[":status"]
    if status != "200":
        raise RefusedError(f"HTTP/2 {status}")
    return stream
