"""The control server: requests on a UNIX socket, answered by a table of methods.

It knows the protocol (`ctl.messages`) and who may speak; what the methods do is not its business
(`tunneld.methods`). Whatever a client sends harms that client's connection at most.
"""

import os
import socket
import struct
from collections.abc import Callable, Mapping
from typing import NamedTuple

import msgspec
import structlog
import trio
from msgspec import Struct

from ctl.messages import PROTOCOL_VERSION, ControlError, FrameError, Message
from tunneld.framestream import FrameStream
from tunneld.request import Envelope, Method, Reply, Request, bad_request, id_of
from tunneld.schema import did_you_mean

log = structlog.get_logger(__name__)

MAX_CONNECTIONS = 256
"""Connections at a time; one that was given to a dial no longer counts."""
MAX_REFUSALS = 32
"""Connections beyond that which are told so; still more are just closed."""
MAX_REQUESTS = 32
"""Requests at a time on one connection."""
HELLO_TIMEOUT = 10.0
"""Seconds for the greeting."""
FRAME_TIMEOUT = 10.0
"""Seconds from a frame's first octet to its last."""

_CREDENTIALS = struct.Struct("iII")  # struct ucred: pid, uid, gid; unix(7)


class Peer(NamedTuple):
    """Who is at the other end, as the kernel says."""

    pid: int
    uid: int
    gid: int


def peer_credentials(sock: trio.socket.SocketType) -> Peer:
    """SO_PEERCRED: of the process that connected, at that time."""
    raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return Peer(*_CREDENTIALS.unpack(raw))


class ControlServer:
    """Serves any number of connections, each with its own requests."""

    def __init__(
        self,
        methods: Mapping[str, Method],
        software: str,
        credentials: Callable[[trio.socket.SocketType], Peer] = peer_credentials,
    ) -> None:
        """Answer by ``methods``; ``software`` is what the greeting says of us."""
        self._methods = methods
        self._software = software
        self._credentials = credentials
        self._connections = 0

    async def serve(
        self,
        listener: trio.abc.Listener[trio.SocketStream],
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Accept connections until cancelled, which ends them too."""
        async with trio.open_nursery() as connections:
            await connections.start(trio.serve_listeners, self._accepted, [listener])
            task_status.started()

    async def _accepted(self, stream: trio.SocketStream) -> None:
        self._connections += 1
        try:
            if self._connections <= MAX_CONNECTIONS + MAX_REFUSALS:
                await self._converse(FrameStream(stream.socket, FRAME_TIMEOUT))
        except* trio.BrokenResourceError:
            pass  # the client is gone
        except* Exception:
            log.exception("control connection failed")
        finally:
            self._connections -= 1
            stream.socket.close()

    async def _converse(self, frames: FrameStream) -> None:
        async with frames:
            connection = _Connection(frames, self._methods)
            greeted = False
            with trio.move_on_after(HELLO_TIMEOUT):
                greeted = await connection.greet(self._software, self._refusal(frames.socket))
            if greeted:
                await connection.serve()

    def _refusal(self, sock: trio.socket.SocketType) -> ControlError | None:
        peer = self._credentials(sock)
        if peer.uid not in (0, os.getuid()):
            log.warning("control connection refused", uid=peer.uid, pid=peer.pid)
            return ControlError(
                "denied",
                f"uid {peer.uid} may not control this daemon, only uid {os.getuid()} and root",
                "run the command as the daemon's user",
            )
        if self._connections > MAX_CONNECTIONS:
            return ControlError(
                "busy",
                f"{MAX_CONNECTIONS} control connections are open already",
                "end some of them, then try again",
            )
        return None


class _Hello(Struct, frozen=True):
    version: int
    client: str = ""


class _Connection:
    """One client: its greeting, then its requests, each in a task of its own."""

    def __init__(self, frames: FrameStream, methods: Mapping[str, Method]) -> None:
        self._frames = frames
        self._methods = methods
        self._running = 0

    async def greet(self, software: str, refusal: ControlError | None) -> bool:
        """Answer the first message; False if the client is gone or was refused."""
        message = await self._receive()
        if message is None:
            return False
        error = refusal or _hello_problem(message)
        if error is not None:
            await self._say({"id": id_of(message), "error": error.to_map()})
            return False
        result = {"version": PROTOCOL_VERSION, "server": software, "pid": os.getpid()}
        await self._say({"id": id_of(message), "result": result})
        return True

    async def serve(self) -> None:
        """Answer requests until the client is gone, which cancels those that still run."""
        async with trio.open_nursery() as requests:
            while (message := await self._receive()) is not None:
                try:
                    envelope, method = self._parse(message)
                except ControlError as exc:
                    await self._say({"id": id_of(message), "error": exc.to_map()})
                    continue
                if method.reply is not Reply.HANDOVER:
                    self._running += 1
                    requests.start_soon(self._run_one, envelope, method, requests.cancel_scope)
                elif await self._hand_over(envelope, method):
                    break
            requests.cancel_scope.cancel()

    def _parse(self, message: Message) -> tuple[Envelope, Method]:
        try:
            envelope = msgspec.convert(message, Envelope)
        except msgspec.ValidationError as exc:
            raise bad_request(exc, "request") from exc
        method = self._methods.get(envelope.method)
        if method is None:
            name = envelope.method[:80]
            hint = did_you_mean(name, self._methods).removeprefix(", ")
            raise ControlError("unknown_method", f"unknown method {name!r}", hint)
        if self._running >= MAX_REQUESTS:
            raise ControlError("busy", f"{MAX_REQUESTS} requests run on this connection already")
        if method.reply is Reply.HANDOVER and self._running:
            raise ControlError(
                "bad_request", f"{envelope.method} wants a connection of its own, others run on it"
            )
        return envelope, method

    async def _run_one(
        self, envelope: Envelope, method: Method, connection: trio.CancelScope
    ) -> None:
        request = Request(envelope.id, self._frames)
        try:
            answer = await self._call(envelope, method, request)
            await self._say({"id": envelope.id, **answer})
        except trio.BrokenResourceError:
            connection.cancel()  # the client is gone
        finally:
            self._running -= 1
        for action in request.after_reply:
            action()

    async def _hand_over(self, envelope: Envelope, method: Method) -> bool:
        """Run a method that gives the socket away, and answer if it did not."""
        answer = await self._call(envelope, method, Request(envelope.id, self._frames))
        if "error" not in answer:
            return True
        await self._say({"id": envelope.id, **answer})
        return False

    async def _call(self, envelope: Envelope, method: Method, request: Request) -> Message:
        """The reply without its id."""
        try:
            params = msgspec.convert(envelope.params, method.params)
            result = await method.run(params, request)
        except msgspec.ValidationError as exc:
            return {"error": bad_request(exc, envelope.method).to_map()}
        except ControlError as exc:
            return {"error": exc.to_map()}
        except trio.BrokenResourceError:
            raise
        except Exception as exc:
            log.exception("control request failed", method=envelope.method)
            text = f"{type(exc).__name__}: {exc}"
            return {"error": ControlError("internal", text, "see the daemon's log").to_map()}
        return {"end" if method.reply is Reply.STREAM else "result": result}

    async def _receive(self) -> Message | None:
        """The next message; what is none gets an error and ends the connection."""
        try:
            return await self._frames.receive()
        except FrameError as exc:
            await self._say({"id": 0, "error": ControlError("bad_request", str(exc)).to_map()})
            return None

    async def _say(self, message: Message) -> None:
        """Send a reply.

        Raises:
          trio.BrokenResourceError: the client is gone.
        """
        try:
            await self._frames.send(message)
        except FrameError as exc:
            error = ControlError("internal", f"the answer is too large: {exc}")
            await self._frames.send({"id": message["id"], "error": error.to_map()})


def _hello_problem(message: Message) -> ControlError | None:
    try:
        envelope = msgspec.convert(message, Envelope)
        if envelope.method != "hello":
            return ControlError("bad_request", f"{envelope.method[:80]!r} came before hello")
        hello = msgspec.convert(envelope.params, _Hello)
    except msgspec.ValidationError as exc:
        return bad_request(exc, "hello")
    if hello.version != PROTOCOL_VERSION:
        return ControlError(
            "bad_version",
            f"control protocol {hello.version}, this daemon speaks {PROTOCOL_VERSION}",
            "use the tunnelctl of the daemon's version, or restart the daemon",
        )
    return None
