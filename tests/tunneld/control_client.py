"""The client's side of a control connection, for tests."""

from pathlib import Path
from typing import Any

import trio

from ctl.messages import Message, encode
from tunneld.framestream import FrameStream

HELLO = {"version": 1, "client": "test"}


class ControlClient(FrameStream):
    """Sends requests and raw octets; gives replies as they come."""

    @classmethod
    async def connect(cls, path: Path) -> "ControlClient":
        sock = trio.socket.socket(trio.socket.AF_UNIX, trio.socket.SOCK_STREAM)
        await sock.connect(str(path))
        return cls(sock)

    @classmethod
    async def greeted(cls, path: Path) -> "ControlClient":
        client = await cls.connect(path)
        reply = await client.ask("hello", HELLO)
        assert reply["result"]["version"] == 1
        return client

    async def put(self, octets: bytes) -> None:
        """Send octets as they are."""
        while octets:
            octets = octets[await self.socket.send(octets) :]

    async def request(self, number: int, method: str, params: dict[str, Any] | None = None) -> None:
        await self.put(encode({"id": number, "method": method, "params": params or {}}))

    async def reply(self) -> Message:
        message = await self.receive()
        assert message is not None
        return message

    async def ask(self, method: str, params: dict[str, Any] | None = None) -> Message:
        """A request and its one reply, without the id."""
        await self.request(1, method, params)
        reply = await self.reply()
        assert reply.pop("id") == 1
        return reply
