"""The endpoint, run in `private`: `python -m tests.e2e.turmoil.endpoint PORT`; orders by stdin.

What a connection is like its first record says: ``mode`` is

  round  a record is answered by one of the same sequence number
  down   records all the time, ``pace`` seconds apart, ``size`` octets each
  up     nothing but the end

and each ends with our E, once the client's has come. A kill resets all connections, as a machine
that is gone does: by itself the kernel would send a FIN, and nobody could tell that from an end.
"""

import json
import socket
import struct
import sys
from collections import Counter
from typing import Any

import trio

from tests.e2e.turmoil.orders import Answer, obey
from tests.e2e.turmoil.records import (
    TO_CLIENT,
    TO_ENDPOINT,
    Receiver,
    Record,
    Sender,
    WrongOctetsError,
)

_CHUNK = 1 << 16
_RESET = struct.pack("ii", 1, 0)
_NO_RESET = struct.pack("ii", 0, 0)
SIZES = 8000
"""Octets of an answer's payload, at most."""


class Endpoint:
    """All connections, and what came of them."""

    def __init__(self) -> None:
        self.active = 0
        self.outcomes: Counter[str] = Counter()
        self.octets = 0
        self.violations: list[str] = []
        self._stalled_until = 0.0

    async def serve(self, stream: trio.SocketStream) -> None:
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        visit = _Visit(self, stream)
        self.active += 1
        outcome = "wrong"
        try:
            outcome = await visit.run()
        except* WrongOctetsError as exc:
            self.violations.extend(f"endpoint: {each}" for each in exc.exceptions)
        finally:
            self.active -= 1
            self.outcomes[outcome] += 1
            self.octets += visit.receiver.octets
            stream.socket.close()

    async def stall(self) -> None:
        """Return when reading may go on."""
        await trio.sleep_until(self._stalled_until)

    async def status(self, _: dict[str, Any]) -> Answer:
        violations, self.violations = self.violations, []
        return {
            "active": self.active,
            "outcomes": dict(self.outcomes),
            "octets": self.octets,
            "violations": violations,
        }

    async def stop_reading(self, order: dict[str, Any]) -> Answer:
        self._stalled_until = trio.current_time() + order["seconds"]
        return {}


class _Visit:
    """One connection."""

    def __init__(self, endpoint: Endpoint, stream: trio.SocketStream) -> None:
        self._endpoint = endpoint
        self._stream = stream
        self.receiver = Receiver(None, TO_ENDPOINT)
        self._sender: Sender | None = None
        self._wanted: dict[str, Any] = {}
        self._last = trio.Event()

    async def run(self) -> str:
        """The outcome."""
        outcome = "broken"
        try:
            async with trio.open_nursery() as nursery:
                outcome = "complete" if await self._receive(nursery) else "truncated"
                self._last.set()
        except* (OSError, trio.BrokenResourceError):
            outcome = "broken"
            self.receiver.check_rest()
        if outcome == "truncated":
            self._endpoint.violations.append(
                f"endpoint: connection {self.receiver.connection}: clean end, but no E, "
                f"behind {self.receiver.octets} octets ({self._wanted.get('mode')})"
            )
        elif outcome == "complete":
            self._stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_RESET)
        return outcome

    async def _receive(self, nursery: trio.Nursery) -> bool:
        """Whether the E came before the end of file."""
        while data := await self._stream.receive_some(_CHUNK):
            for record in self.receiver.feed(bytes(data)):
                await self._take(record, nursery)
            if self._wanted.get("mode") == "up":
                await self._endpoint.stall()
        if self._sender is None:
            # A client that has given up before it said anything.
            return self.receiver.octets == 0
        if not self.receiver.complete:
            nursery.cancel_scope.cancel()
            return False
        if self._wanted["mode"] != "down":
            await self._stream.send_all(self._sender.end())
        return True

    async def _take(self, record: Record, nursery: trio.Nursery) -> None:
        if record.kind == b"H":
            assert self.receiver.connection is not None
            self._sender = Sender(self.receiver.connection, TO_CLIENT)
            self._wanted = json.loads(record.payload)
            if self._wanted["mode"] == "down":
                nursery.start_soon(self._pour, self._sender)
            else:
                await self._stream.send_all(self._sender.data(1))
        elif record.kind == b"R" and self._wanted["mode"] == "round":
            assert self._sender is not None
            size = (record.sequence * 7919 + len(record.payload)) % SIZES
            await self._stream.send_all(self._sender.data(size))

    async def _pour(self, sender: Sender) -> None:
        while not self._last.is_set():
            await self._stream.send_all(sender.data(self._wanted["size"]))
            with trio.move_on_after(self._wanted["pace"]):
                await self._last.wait()
        await self._stream.send_all(sender.end())


async def main(port: int) -> None:
    endpoint = Endpoint()
    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(port, host="0.0.0.0", backlog=1024)
        nursery.start_soon(trio.serve_listeners, endpoint.serve, listeners)
        await obey({"status": endpoint.status, "stall": endpoint.stop_reading})
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main, int(sys.argv[1]))
