"""Watches a client while its dial is pending: what it sends on is kept, and its loss noticed."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from tunneld.transport.stream import TransportStream

_EARLY_LIMIT = 64 * 1024
"""Octets read ahead, at most; what a client sends beyond that waits in its own socket."""


class Watch:
    """Reads ahead on ``stream`` until `stop`; cancels everything if the client is lost."""

    def __init__(self, stream: TransportStream) -> None:
        self._stream = stream
        self._reading = trio.CancelScope()
        self._stopped = trio.Event()
        self._octets = bytearray()

    async def stop(self) -> None:
        """Hand the stream back, with what was read put back into it."""
        self._reading.cancel()
        with trio.CancelScope(shield=True):
            await self._stopped.wait()
        self._stream.unread(bytes(self._octets))
        self._octets.clear()

    async def run(self, everything: trio.CancelScope) -> None:
        """A client that half-closes is not lost: it may only have said all it wants to."""
        try:
            with self._reading:
                while len(self._octets) < _EARLY_LIMIT:
                    octets = await self._stream.receive_some()
                    if not octets:
                        return
                    self._octets += octets
        except trio.BrokenResourceError:
            everything.cancel()
        finally:
            self._stopped.set()


@asynccontextmanager
async def watching(stream: TransportStream) -> AsyncIterator[Watch]:
    """Watch while the block runs; a lost client cancels the block."""
    failure: Exception | None = None
    async with trio.open_nursery() as nursery:
        watch = Watch(stream)
        nursery.start_soon(watch.run, nursery.cancel_scope)
        try:
            yield watch
        except Exception as exc:  # raised again below, where no nursery wraps it into a group
            failure = exc
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure
