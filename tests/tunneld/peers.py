"""Clients of a frontend that share no code with it: `ssl`, `h2` and CONNECT written by hand."""

import socket
import ssl
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import h2.settings
import trio

ESTABLISHED = b"HTTP/1.1 200 Connection Established\r\n\r\n"


class Peer(Protocol):
    """One tunnelled connection, as its client has it."""

    async def send_all(self, data: bytes) -> None: ...

    async def receive_some(self) -> bytes:
        """b"" at a clean end; `ConnectionError` at any other."""

    async def send_eof(self) -> None: ...

    def reset(self) -> None: ...


async def receive_all(peer: Peer) -> bytes:
    """All octets up to the end."""
    octets = bytearray()
    while data := await peer.receive_some():
        octets += data
    return bytes(octets)


def client_context(pki: Path, *alpn: str) -> ssl.SSLContext:
    """With the client certificate that the frontend asks for."""
    context = ssl.create_default_context(cafile=str(pki / "frontend/ca.crt"))
    context.load_cert_chain(pki / "frontend/client.crt", pki / "frontend/client.key")
    if alpn:
        context.set_alpn_protocols(alpn)
    return context


def reset_socket(sock: trio.socket.SocketType) -> None:
    """Close with RST."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


class PlainPeer:
    """Over a socket as it is."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream

    async def send_all(self, data: bytes) -> None:
        try:
            await self.stream.send_all(data)
        except trio.BrokenResourceError as exc:
            raise ConnectionError(str(exc)) from exc

    async def receive_some(self) -> bytes:
        try:
            return bytes(await self.stream.receive_some(65536))
        except trio.BrokenResourceError as exc:
            raise ConnectionError(str(exc)) from exc

    async def send_eof(self) -> None:
        await self.stream.send_eof()

    def reset(self) -> None:
        reset_socket(self.stream.socket)


class TlsPeer:
    """Over TLS by memory buffers. Ends with close_notify, unless ``notify`` is off: then with a
    FIN alone, as Python's `ssl.SSLSocket.shutdown` does it."""

    def __init__(self, stream: trio.SocketStream, context: ssl.SSLContext, name: str) -> None:
        self.stream = stream
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname=name)
        self.notify = True

    async def handshake(self) -> None:
        await self._call(self.tls.do_handshake)

    async def send_all(self, data: bytes) -> None:
        self.tls.write(data)
        await self.flush()

    async def receive_some(self) -> bytes:
        try:
            return await self._call(lambda: self.tls.read(65536))
        except ssl.SSLZeroReturnError:
            return b""

    async def send_eof(self) -> None:
        if self.notify:
            try:
                self.tls.unwrap()
            except ssl.SSLWantReadError:
                pass
            await self.flush()
        await self.stream.send_eof()

    def reset(self) -> None:
        reset_socket(self.stream.socket)

    async def flush(self) -> None:
        data = self.outgoing.read()
        if not data:
            return
        try:
            await self.stream.send_all(data)
        except trio.BrokenResourceError as exc:
            raise ConnectionError(str(exc)) from exc

    async def _call(self, action: Callable[[], bytes | None]) -> bytes:
        while True:
            try:
                result = action()
            except ssl.SSLWantReadError:
                await self.flush()
                try:
                    data = await self.stream.receive_some(65536)
                except trio.BrokenResourceError as exc:
                    raise ConnectionError(str(exc)) from exc
                if not data:
                    raise ConnectionError("closed without close_notify") from None
                self.incoming.write(data)
            else:
                await self.flush()
                return result or b""


@dataclass
class H2Stream:
    """One stream of an `H2Client`."""

    client: "H2Client"
    id: int
    octets: bytearray = field(default_factory=bytearray)
    headers: dict[str, str] = field(default_factory=dict)
    ended: bool = False
    error: str = ""
    news: trio.Event = field(default_factory=trio.Event)
    reading: bool = True
    """Whether what comes is acknowledged at once, or only when it is received."""

    def tell(self) -> None:
        self.news.set()
        self.news = trio.Event()

    async def response(self) -> dict[str, str]:
        while not self.headers and not self.error:
            await self.news.wait()
        if not self.headers:
            raise ConnectionError(self.error)
        return self.headers

    async def send_all(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            if self.error:
                raise ConnectionError(self.error)
            connection = self.client.connection
            window = connection.local_flow_control_window(self.id)
            size = min(len(view), window, connection.max_outbound_frame_size)
            if not size:
                await self.client.window.wait()
                continue
            connection.send_data(self.id, bytes(view[:size]))
            await self.client.flush()
            view = view[size:]

    async def receive_some(self) -> bytes:
        while not self.octets and not self.ended and not self.error:
            await self.news.wait()
        if not self.octets and self.error and not self.ended:
            raise ConnectionError(self.error)
        data = bytes(self.octets)
        self.octets.clear()
        if not self.reading and data:
            self.client.connection.acknowledge_received_data(len(data), self.id)
            await self.client.flush()
        return data

    async def send_eof(self) -> None:
        self.client.connection.end_stream(self.id)
        await self.client.flush()

    def reset(self) -> None:
        self.client.connection.reset_stream(self.id, h2.errors.ErrorCodes.CANCEL)
        self.client.nursery.start_soon(self.client.flush)


class H2Client:
    """HTTP/2 by the `h2` library, over a TLS or plain peer."""

    def __init__(self, peer: PlainPeer | TlsPeer, nursery: trio.Nursery) -> None:
        self.peer = peer
        self.nursery = nursery
        config = h2.config.H2Configuration(client_side=True, header_encoding="utf-8")
        self.connection = h2.connection.H2Connection(config)
        self.streams: dict[int, H2Stream] = {}
        self.window = trio.Event()
        self.goaway: h2.events.ConnectionTerminated | None = None
        self.closed = trio.Event()
        self._sending = trio.Lock()

    async def start(self, settings: dict[h2.settings.SettingCodes | int, int]) -> None:
        self.connection.initiate_connection()
        if settings:
            self.connection.update_settings(settings)
        await self.flush()
        self.nursery.start_soon(self._read)

    async def connect(self, authority: str, *, end_stream: bool = False) -> H2Stream:
        return await self.request(
            [(":method", "CONNECT"), (":authority", authority)], end_stream=end_stream
        )

    async def request(
        self, headers: list[tuple[str, str]], *, end_stream: bool = False
    ) -> H2Stream:
        stream_id = self.connection.get_next_available_stream_id()
        stream = self.streams[stream_id] = H2Stream(self, stream_id)
        self.connection.send_headers(stream_id, headers, end_stream=end_stream)
        await self.flush()
        return stream

    async def flush(self) -> None:
        # Half a frame would break the connection, so not even a cancellation cuts one off.
        with trio.CancelScope(shield=True):
            async with self._sending:
                await self._flush()

    async def _flush(self) -> None:
        if data := self.connection.data_to_send():
            try:
                await self.peer.send_all(data)
            except ConnectionError:
                return  # the reader finds out, too

    async def _read(self) -> None:
        error = "connection closed"
        try:
            while data := await self.peer.receive_some():
                for event in self.connection.receive_data(data):
                    self._on_event(event)
                await self.flush()
        except (ConnectionError, h2.exceptions.ProtocolError) as exc:
            error = str(exc) or type(exc).__name__
        for stream in self.streams.values():
            if not stream.ended:
                stream.error = stream.error or error
            stream.tell()
        self.closed.set()

    def _on_event(self, event: h2.events.Event) -> None:
        if isinstance(event, h2.events.ConnectionTerminated):
            self.goaway = event
        if isinstance(event, h2.events.WindowUpdated | h2.events.RemoteSettingsChanged):
            self.window.set()
            self.window = trio.Event()
        stream = self.streams.get(getattr(event, "stream_id", None) or 0)
        if stream is None:
            return
        match event:
            case h2.events.ResponseReceived():
                stream.headers = {str(k): str(v) for k, v in event.headers}
            case h2.events.DataReceived():
                stream.octets += event.data
                if stream.reading:
                    self.connection.acknowledge_received_data(
                        event.flow_controlled_length, stream.id
                    )
            case h2.events.StreamEnded():
                stream.ended = True
            case h2.events.StreamReset():
                stream.error = f"reset {event.error_code}"
                self.window.set()
                self.window = trio.Event()
        stream.tell()


async def open_tls(
    address: tuple[str, int], pki: Path, *alpn: str, context: ssl.SSLContext | None = None
) -> TlsPeer:
    """TLS to a frontend, handshake done."""
    stream = await trio.open_tcp_stream(*address)
    peer = TlsPeer(stream, context or client_context(pki, *alpn), address[0])
    await peer.handshake()
    return peer


async def open_unix(path: str) -> PlainPeer:
    """A connection to a UNIX frontend."""
    return PlainPeer(await trio.open_unix_socket(path))


@asynccontextmanager
async def open_h2(
    peer: PlainPeer | TlsPeer, settings: dict[h2.settings.SettingCodes | int, int] | None = None
) -> AsyncIterator[H2Client]:
    """HTTP/2 over ``peer``, while the block runs."""
    async with trio.open_nursery() as nursery:
        client = H2Client(peer, nursery)
        await client.start(settings or {})
        yield client
        nursery.cancel_scope.cancel()
    await trio.aclose_forcefully(peer.stream)


async def connect(peer: PlainPeer | TlsPeer, authority: str) -> bytes:
    """CONNECT over HTTP/1.1; what the first read brought."""
    request = f"CONNECT {authority} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    await peer.send_all(request.encode())
    return await peer.receive_some()
