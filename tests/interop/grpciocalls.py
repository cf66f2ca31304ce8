"""konnectivity's calls by `grpcio`, as trio has them: generated code, channels, streams of packets.

grpcio blocks in threads of its own. A `PacketCall` is where they meet trio.
"""

import importlib
import importlib.util
import math
import sys
import tempfile
import threading
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import cache
from pathlib import Path
from queue import SimpleQueue
from typing import Any, NamedTuple

import grpc
import trio

from tests.conftest import need

Metadata = Sequence[tuple[str, str]]
"""Names in lower case, and values; a name may occur more than once."""

_HERE = Path(__file__).parent
_PROTOS = (_HERE.parent / "frames/packet.proto", _HERE / "konnectivity.proto")
_AHEAD = 64
"""Packets that one side may be ahead of the other, between trio and a thread."""

_threads = trio.CapacityLimiter(math.inf)
"""One for each call, however many there are."""


class Generated(NamedTuple):
    """Modules that protoc makes."""

    packet: Any
    services: Any


@cache
def generated() -> Generated:
    """Compile the protos. A test that comes to need them calls it first of all, outside of trio:
    it skips where the compiler is missing."""
    need(importlib.util.find_spec("grpc_tools"), "grpcio-tools")
    protoc = importlib.import_module("grpc_tools.protoc")
    with tempfile.TemporaryDirectory() as directory:
        out = [f"--python_out={directory}", f"--grpc_python_out={directory}"]
        include = [f"-I{proto.parent}" for proto in _PROTOS]
        assert protoc.main(["protoc", *include, *out, *(proto.name for proto in _PROTOS)]) == 0
        sys.path.insert(0, directory)
        try:
            packet = importlib.import_module("packet_pb2")
            return Generated(packet, importlib.import_module("konnectivity_pb2_grpc"))
        finally:
            sys.path.remove(directory)


def packet(kind: str | int, **payload: dict[str, object]) -> Any:
    """A Packet of type ``kind``, with one member of its payload."""
    return generated().packet.Packet(type=kind, **payload)


def dial_request(address: str, random: int, protocol: str = "tcp") -> Any:
    fields = {"protocol": protocol, "address": address, "random": random}
    return packet("DIAL_REQ", dialRequest=fields)


def dial_response(random: int, connect_id: int, error: str = "") -> Any:
    fields = {"random": random, "connectID": connect_id, "error": error}
    return packet("DIAL_RSP", dialResponse=fields)


def data(connect_id: int, octets: bytes) -> Any:
    return packet("DATA", data={"connectID": connect_id, "data": octets})


def close_request(connect_id: int) -> Any:
    return packet("CLOSE_REQ", closeRequest={"connectID": connect_id})


def close_response(connect_id: int, error: str = "") -> Any:
    return packet("CLOSE_RSP", closeResponse={"connectID": connect_id, "error": error})


def close_dial(random: int) -> Any:
    return packet("DIAL_CLS", closeDial={"random": random})


def drain() -> Any:
    return packet("DRAIN", drain={})


# -- channels ---------------------------------------------------------------------------------


def _read(pki: Path, *names: str) -> list[bytes]:
    return [(pki / name).read_bytes() for name in names]


@contextmanager
def open_channel(
    address: str, pki: Path | None = None, who: str = "", ca: str = "", **options: object
) -> Iterator[Any]:
    """A channel: its first call connects.

    Args:
      pki: where TLS takes its certificates from; None is without TLS.
      who: whose certificate to show: ``frontend/client``, ``agent/agent``.
      ca: of the server; ``frontend`` or ``agent``, "" being the same as of ``who``.
      options: grpcio's, ``.`` written as ``__``, ``grpc.`` left out; and ``compression``.
    """
    compression = options.pop("compression", None)
    settings = [(f"grpc.{name.replace('__', '.')}", value) for name, value in options.items()]
    # Or channels with the same options would share a connection.
    settings.append(("grpc.use_local_subchannel_pool", 1))
    if pki is None:
        channel = grpc.insecure_channel(address, settings, compression)
    else:
        names = f"{ca or who.partition('/')[0]}/ca.crt", f"{who}.key", f"{who}.crt"
        credentials = grpc.ssl_channel_credentials(*_read(pki, *names))
        channel = grpc.secure_channel(address, credentials, settings, compression)
    try:
        yield channel
    finally:
        channel.close()


def server_credentials(pki: Path) -> Any:
    """Of a server that agents connect to, and that asks them for a certificate."""
    ca, key, cert = _read(pki, "agent/ca.crt", "agent/server.key", "agent/server.crt")
    return grpc.ssl_server_credentials([(key, cert)], ca, require_client_auth=True)


# -- calls ------------------------------------------------------------------------------------


class Status(NamedTuple):
    """How a call ended."""

    code: str
    """gRPC's name of it."""
    details: str


class PacketCall:
    """One call's stream of packets, for either side. What came before its end is received first.

    A side that does not receive makes the other wait, by gRPC's flow control.
    """

    def __init__(self) -> None:
        self.metadata: dict[str, list[str]] = {}
        """Of the response, once `greeted`; of the request, on a server."""
        self.greeted = trio.Event()
        """Set when the response's head came."""
        self.over = trio.Event()
        """Set when nothing more will come."""
        self.status: Status | None = None
        """Set with `over`, on a client."""
        self._token = trio.lowlevel.current_trio_token()
        self._outgoing: SimpleQueue[Any] = SimpleQueue()
        self._room = trio.Semaphore(_AHEAD)
        self._incoming, self._came = trio.open_memory_channel[Any](math.inf)
        self._ahead = threading.Semaphore(_AHEAD)
        self._rpc: Any = None

    async def send(self, *packets: Any) -> None:
        """Send packets; those of a call that is over go nowhere."""
        for each in packets:
            if self.over.is_set():
                return
            await self._room.acquire()
            self._outgoing.put(each)

    def end(self) -> None:
        """Nothing more is to be sent: a client's half-close, a server's end with OK."""
        self._outgoing.put(None)

    async def receive(self) -> Any:
        """
        Raises:
          trio.EndOfChannel: nothing more will come.
        """
        packet = await self._came.receive()
        self._ahead.release()
        return packet

    async def ended(self) -> Status:
        """How the call ended, for a client."""
        await self.over.wait()
        assert self.status is not None
        return self.status

    def cancel(self) -> None:
        """End the call at once, both ways."""
        self._rpc.cancel()

    def close(self) -> None:
        """Let go of the call, and of all threads that wait for it."""
        self.cancel()
        self.end()
        self._ahead.release(_AHEAD)

    # -- towards grpcio -----------------------------------------------------------------------

    def attach(self, rpc: Any) -> None:
        """Take grpcio's object of the call; `run` next."""
        self._rpc = rpc

    async def run(self, packets: Iterable[Any]) -> None:
        """Receive from ``packets``, which blocks, to the end."""
        await trio.to_thread.run_sync(self._receive_all, packets, limiter=_threads)
        self.over.set()
        self._incoming.close()
        for _ in range(self._room.statistics().tasks_waiting):
            self._room.release()

    def outgoing(self) -> Iterator[Any]:
        """What to send, in a thread of grpcio's."""
        with suppress(trio.RunFinishedError):
            for each in iter(self._outgoing.get, None):
                yield each
                self._token.run_sync_soon(self._room.release)

    def _receive_all(self, packets: Iterable[Any]) -> None:
        try:
            if isinstance(self._rpc, grpc.Call):
                self._token.run_sync_soon(self._greet, self._rpc.initial_metadata())
            for each in packets:
                self._ahead.acquire()
                self._token.run_sync_soon(self._incoming.send_nowait, each)
        except grpc.RpcError:
            pass  # the status tells
        if isinstance(self._rpc, grpc.Call):
            self.status = Status(self._rpc.code().name, self._rpc.details())

    def _greet(self, metadata: Iterable[tuple[str, str]]) -> None:
        self.metadata = by_name(metadata)
        self.greeted.set()


def by_name(metadata: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """Values by name."""
    found: dict[str, list[str]] = {}
    for name, value in metadata:
        found.setdefault(name, []).append(value)
    return found


@asynccontextmanager
async def open_call(
    method: Any, metadata: Metadata = (), timeout: float | None = None
) -> AsyncIterator[PacketCall]:
    """Call ``method``, of a channel or of a stub; at the end of the block the call is cancelled."""
    call = PacketCall()
    rpc = method(call.outgoing(), metadata=metadata, timeout=timeout)
    call.attach(rpc)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(call.run, rpc)
        try:
            yield call
        finally:
            call.close()


def connect(channel: Any) -> Any:
    """The method that agents call."""
    return generated().services.AgentServiceStub(channel).Connect


def proxy(channel: Any) -> Any:
    """The method that clients call."""
    return generated().services.ProxyServiceStub(channel).Proxy
