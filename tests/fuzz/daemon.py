"""The control server as a whole, over a real socket: whatever a client sends, others are served."""

import socket

import structlog.testing
import trio
from msgspec import Struct

from ctl.messages import Decoder, Message, encode
from tests.fuzz.target import Target
from tunneld.control import ControlServer, Peer
from tunneld.request import Method, Nothing, Reply, Request

_HELLO: Message = {"id": 1, "method": "hello", "params": {"version": 1, "client": "fuzz"}}


class _Params(Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    number: int = 0
    names: tuple[str, ...] = ()


async def _say(params: _Params, request: Request) -> Message:
    await trio.lowlevel.checkpoint()
    return {"name": params.name}


async def _count(params: Nothing, request: Request) -> Message:
    for number in range(3):
        await request.item({"number": number})
    return {}


_METHODS = {
    "say": Method(_Params, _say),
    "count": Method(Nothing, _count, Reply.STREAM),
}


class _One(trio.abc.Listener[trio.SocketStream]):
    """A listener whose connections come from a channel."""

    def __init__(self, incoming: trio.MemoryReceiveChannel[trio.SocketStream]) -> None:
        self._incoming = incoming

    async def accept(self) -> trio.SocketStream:
        return await self._incoming.receive()

    async def aclose(self) -> None:
        await self._incoming.aclose()


def run_server(octets: bytes) -> None:
    """One client that sends ``octets``, and one that is honest behind it."""
    with structlog.testing.capture_logs() as logs:
        trio.run(_serve, octets)
    failed = [line for line in logs if line["log_level"] in ("error", "critical")]
    assert not failed, failed


async def _serve(octets: bytes) -> None:
    send, receive = trio.open_memory_channel[trio.SocketStream](2)
    server = ControlServer(_METHODS, "fuzz", lambda _: Peer(1, 0, 0))
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            await nursery.start(server.serve, _One(receive))
            for said in (octets, encode(_HELLO) + octets):
                _check_messages(await _talk(send, said))
            honest = encode(_HELLO) + encode({"id": 2, "method": "say", "params": {"name": "x"}})
            replies = _check_messages(await _talk(send, honest))
            assert replies[-1] == {"id": 2, "result": {"name": "x"}}, replies
            nursery.cancel_scope.cancel()


async def _talk(send: trio.MemorySendChannel[trio.SocketStream], octets: bytes) -> bytes:
    """Send, and read what comes back until the server is done with us."""
    ours, theirs = socket.socketpair()
    await send.send(trio.SocketStream(trio.socket.from_stdlib_socket(theirs)))
    stream = trio.SocketStream(trio.socket.from_stdlib_socket(ours))
    heard = b""
    async with stream, trio.open_nursery() as nursery:
        nursery.start_soon(_send, stream, octets)
        try:
            async for data in stream:
                heard += data
        except trio.BrokenResourceError:
            pass  # closed amid what we sent
        nursery.cancel_scope.cancel()
    return heard


async def _send(stream: trio.SocketStream, octets: bytes) -> None:
    try:
        await stream.send_all(octets)
        for _ in range(20):  # let it answer before our end cancels what runs
            await trio.lowlevel.checkpoint()
        await stream.send_eof()
    except trio.BrokenResourceError:
        pass


def _check_messages(octets: bytes) -> list[Message]:
    decoder, found = Decoder(), []
    decoder.feed(octets)
    while (message := decoder.next_message()) is not None:
        found.append(message)
    return found


_SAY = encode({"id": 2, "method": "say", "params": {"name": "x", "number": 1, "names": ["a"]}})
_COUNT = encode({"id": 3, "method": "count", "params": {}})

TARGETS = [
    Target(
        "control-server",
        run_server,
        [
            _SAY + _COUNT,
            _SAY,
            encode(_HELLO) + _COUNT,
            encode({"id": 0, "method": 1, "params": []}),
        ],
        [_SAY, _COUNT, b"\xa6method", b"\xa2id", b"\xcf" + b"\xff" * 8, b"\x80", b"\0\0\0\x01\x80"],
    ),
]
