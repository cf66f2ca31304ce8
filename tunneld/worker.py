"""A worker: the process inside one namespace that runs the roles of that namespace.

    python -m tunneld.worker --fd N --state DIR

``N`` is its end of the supervisor's socketpair. It ends when the other end closes, whatever the
reason: a worker without a supervisor is nobody's.
"""

import argparse
import ctypes
import os
import signal
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import msgspec
import structlog
import trio
from msgspec import Struct

from ctl.messages import ControlError, FrameError, Message
from tunneld import log as logging
from tunneld.config import RoleConfig
from tunneld.factories import FACTORIES, Factories
from tunneld.framestream import FrameStream
from tunneld.handover import Handover
from tunneld.limits import give_memory_back
from tunneld.localdial import encode_reply
from tunneld.outbox import Outbox
from tunneld.request import Envelope, bad_request, id_of
from tunneld.rolegroup import RoleGroup, open_role_group
from tunneld.session import buffers

log = structlog.get_logger(__name__)

_PR_SET_PDEATHSIG = 1  # prctl(2)


class Alive(Struct, frozen=True):
    """Parameters of ``alive``, which is answered once the data plane has turned."""


class Start(Struct, frozen=True):
    """Parameters of ``start``."""

    config: RoleConfig


class Stop(Struct, frozen=True):
    """Parameters of ``stop``."""

    name: str
    timeout: float | None = None


class Rows(Struct, frozen=True):
    """Parameters of ``rows``."""

    kind: Literal["certificates"]


class Reload(Struct, frozen=True):
    """Parameters of ``reload``."""

    config: RoleConfig
    apply: bool


class Ask(Struct, frozen=True):
    """Parameters of ``ask``."""

    name: str
    method: str
    params: dict[str, Any]


class Dial(Struct, frozen=True):
    """Parameters of ``dial``."""

    name: str
    host: str
    port: int
    reply: dict[str, Any]


class Worker:
    """Answers the supervisor's requests (`tunneld.workerlink`) by a group of roles."""

    def __init__(self, frames: FrameStream, group: RoleGroup) -> None:
        self._frames = frames
        self._group = group
        self._methods: Mapping[str, tuple[type[Struct], Callable[..., Awaitable[Message]]]] = {
            "alive": (Alive, self._alive),
            "start": (Start, self._start),
            "stop": (Stop, self._stop),
            "rows": (Rows, self._rows),
            "reload": (Reload, self._reload),
            "ask": (Ask, self._ask),
        }

    async def run(self) -> None:
        """Answer until the supervisor is gone."""
        async with trio.open_nursery() as requests:
            while (message := await self._frames.receive()) is not None:
                # The descriptor belongs to this very message: take it before the next one comes.
                descriptor = self._frames.take_descriptor()
                requests.start_soon(self._answer, message, descriptor)
            requests.cancel_scope.cancel()

    async def _answer(self, message: Message, descriptor: int | None) -> None:
        try:
            answer = {"result": await self._call(message, descriptor)}
        except ControlError as exc:
            answer = {"error": exc.to_map()}
        except msgspec.ValidationError as exc:
            answer = {"error": bad_request(exc, "worker").to_map()}
        except Exception as exc:
            log.exception("worker request failed")
            answer = {"error": ControlError("internal", f"{type(exc).__name__}: {exc}").to_map()}
        try:
            await self._reply({"id": id_of(message), **answer})
        except trio.BrokenResourceError:
            pass  # the supervisor is gone, as `run` is about to see

    async def _reply(self, reply: Message) -> None:
        try:
            await self._frames.send(reply)
        except FrameError as exc:
            error = ControlError("internal", f"the worker's answer is too large: {exc}")
            await self._frames.send({"id": reply["id"], "error": error.to_map()})

    async def _call(self, message: Message, descriptor: int | None) -> Message:
        envelope = msgspec.convert(message, Envelope)
        if envelope.method == "dial":
            return await self._dial(msgspec.convert(envelope.params, Dial), descriptor)
        if descriptor is not None:
            os.close(descriptor)
        if envelope.method not in self._methods:
            raise ControlError("unknown_method", f"unknown method {envelope.method!r}")
        kind, method = self._methods[envelope.method]
        return await method(msgspec.convert(envelope.params, kind))

    async def _alive(self, _: Alive) -> Message:
        await self._group.alive()
        return {}

    async def _start(self, params: Start) -> Message:
        self._group.start(params.config)
        return {}

    async def _stop(self, params: Stop) -> Message:
        await self._group.stop(params.name, params.timeout)
        return {}

    async def _rows(self, params: Rows) -> Message:
        return {"rows": self._group.certificates()}

    async def _reload(self, params: Reload) -> Message:
        changes = self._group.reload(params.config, apply=params.apply)
        return {"changes": [change.to_map() for change in changes]}

    async def _ask(self, params: Ask) -> Message:
        return await self._group.ask(params.name, params.method, params.params)

    async def _dial(self, params: Dial, descriptor: int | None) -> Message:
        if descriptor is None:
            raise ControlError("bad_request", "dial came without a socket")
        sock = socket.socket(fileno=descriptor)
        sock.setblocking(False)
        accept = partial(encode_reply, params.reply)
        await self._group.dial(params.name, sock, params.host, params.port, accept)
        return {}


async def serve(
    sock: socket.socket,
    state_dir: Path,
    factories: Factories,
    log_level: str = "",
    handover: Handover | None = None,
) -> None:
    """Run a worker on its end of the socketpair until the other end closes.

    Args:
      handover: see `tunneld.role.Host`.
    """
    outbox = Outbox()
    logging.configure([outbox.tell_line], logging.threshold(log_level), quiet_events=True)
    frames = FrameStream(trio.socket.from_stdlib_socket(sock))
    async with frames, trio.open_nursery() as nursery:
        nursery.start_soon(_send, outbox, frames)
        async with open_role_group(factories, state_dir, outbox.tell_status, handover) as group:
            await Worker(frames, group).run()
        nursery.cancel_scope.cancel()


async def _send(outbox: Outbox, frames: FrameStream) -> None:
    try:
        await outbox.run(frames)
    except trio.BrokenResourceError:
        pass  # the supervisor is gone, as the worker is about to see


def main(argv: Sequence[str] | None = None, factories: Factories = FACTORIES) -> None:
    """The program: run a worker until its supervisor is gone."""
    parser = argparse.ArgumentParser(prog="tunneld.worker", allow_abbrev=False)
    parser.add_argument("--fd", type=int, required=True, help="our end of the socketpair")
    parser.add_argument("--state", type=Path, required=True, help="the state directory")
    parser.add_argument("--log-level", default="", help="the least that is logged")
    parser.add_argument("--buffer-memory", type=int, default=0, help="octets that may wait")
    parser.add_argument("--handover", action="store_true", help="serve clients when told to")
    arguments = parser.parse_args(argv)
    buffers.resize(arguments.buffer_memory)
    die_with_parent()
    give_memory_back()
    # The supervisor decides when we end; a signal to the whole process group is meant for it.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    sock = socket.socket(fileno=arguments.fd)
    sock.setblocking(False)
    handover = Handover(_nobody_waits) if arguments.handover else None
    trio.run(serve, sock, arguments.state, factories, arguments.log_level, handover)


def _nobody_waits() -> None:
    """Who asks the roles to open is told by their answers."""


def die_with_parent() -> None:
    """Have the kernel kill us when the supervisor dies: the second belt, for a worker that hangs.

    What has died before this call shows as the end of the socketpair.
    """
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


if __name__ == "__main__":
    main()
