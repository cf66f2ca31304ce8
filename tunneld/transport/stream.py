"""A transport driven by trio tasks: handshakes, heads, and the public client's streams."""

import os
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager

import trio

from tunneld.transport.base import WOULD_BLOCK, Transport, tune
from tunneld.transport.tls import TlsTransport

_READ_SIZE = 64 * 1024
_LINGER_OCTETS = 16 << 20
"""More than what an honest peer may have on its way; who floods us does not wait for our word."""

_received = memoryview(bytearray(_READ_SIZE))
"""Shared by all streams of the process: it holds octets only within one call. Each having its own
while it waits, a thousand idle clients would take 64 MB."""


async def handshake(transport: TlsTransport) -> None:
    """Complete the TLS handshake.

    Raises:
      OSError: of the network; `ssl.SSLError` among them.
      EOFError: the peer closed.
    """
    while not transport.handshake_step():
        await trio.lowlevel.wait_readable(transport.sock)
    while not transport.flush():
        await trio.lowlevel.wait_writable(transport.sock)
    if transport.tls.session_reused:
        _check_expiry(transport.tls)


def _check_expiry(tls: ssl.SSLObject) -> None:
    """Look at the peer's certificate as it is now: OpenSSL has when the session was new, which may
    be hours ago with TLS 1.2, whose clients can resume one however few tickets we give.

    Raises:
      ssl.SSLCertVerificationError: it has expired meanwhile.
    """
    certificate = tls.getpeercert()
    if certificate and ssl.cert_time_to_seconds(str(certificate["notAfter"])) < time.time():
        error = ssl.SSLCertVerificationError("a session was resumed")
        error.verify_message = "certificate has expired"
        raise error


class TransportStream(trio.abc.HalfCloseableStream):
    """A trio stream over a `Transport`. Cancelling a call loses no octets of the reader."""

    def __init__(self, transport: Transport) -> None:
        self.transport = transport
        self._early = b""
        self._closed = False
        self._ended = False
        self._busy = False

    def unread(self, data: bytes) -> None:
        """Put octets back, to be received next."""
        self._early = data + self._early

    def take_early(self) -> bytes:
        """What was put back and not received again."""
        early, self._early = self._early, b""
        return early

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        if max_bytes is not None and max_bytes < 1:
            raise ValueError(f"max_bytes is {max_bytes}, must be 1 or more")
        await trio.lowlevel.checkpoint_if_cancelled()
        self._check_open()
        if self._early:
            data = self._early[: max_bytes or len(self._early)]
            self._early = self._early[len(data) :]
            await trio.lowlevel.cancel_shielded_checkpoint()
            return data
        buffer = _received[: max_bytes or _READ_SIZE]
        with _broken():
            size = self.transport.receive_into(buffer)
            if size != WOULD_BLOCK:
                data = bytes(buffer[:size])
                await trio.lowlevel.cancel_shielded_checkpoint()
                return data
            while size == WOULD_BLOCK:
                await trio.lowlevel.wait_readable(self.transport.sock)
                self._check_open()
                size = self.transport.receive_into(buffer)
            return bytes(buffer[:size])

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        with self._only_sender():
            await trio.lowlevel.checkpoint()
            self._check_sending()
            view = memoryview(data).cast("B")
            with _broken():
                for start in range(0, len(view), _READ_SIZE):
                    self.transport.send(view[start : start + _READ_SIZE])
                    await self._flush()

    async def _flush(self) -> None:
        while not self.transport.flush():
            await trio.lowlevel.wait_writable(self.transport.sock)
            self._check_open()

    async def wait_send_all_might_not_block(self) -> None:
        with self._only_sender():
            self._check_sending()
            await trio.lowlevel.wait_writable(self.transport.sock)

    async def send_eof(self) -> None:
        with self._only_sender():
            await trio.lowlevel.checkpoint()
            self._check_open()
            if self._ended:
                return
            self._ended = True
            with _broken():
                await self._flush()  # what a cancelled `send_all` has left
                self.transport.send_eof()
                await self._flush()

    async def aclose(self) -> None:
        self.close()
        await trio.lowlevel.checkpoint()

    def close(self) -> None:
        """`aclose`, which never waits, for those who can't either."""
        if not self._closed:
            self._closed = True
            trio.lowlevel.notify_closing(self.transport.sock)
            if self.transport.unsent:  # cut off: the peer must not take it for the whole
                self.transport.abort()
            else:
                self._close_cleanly()

    def _close_cleanly(self) -> None:
        """With TLS's close_notify, if that goes without waiting."""
        try:
            if not self._ended:
                self.transport.send_eof()
        except OSError:
            pass  # the handshake is not complete, or the peer is gone: nothing to tell, or nobody
        self.transport.close()

    @property
    def closed(self) -> bool:
        """Whether it was closed or detached."""
        return self._closed

    def abort(self) -> None:
        """Close with a reset."""
        if not self._closed:
            self._closed = True
            trio.lowlevel.notify_closing(self.transport.sock)
            self.transport.abort()

    def detach(self) -> Transport:
        """Give the transport away, to the data plane; the stream is closed for its user.

        `take_early` first: what was put back stays behind.
        """
        self._closed = True
        return self.transport

    @contextmanager
    def _only_sender(self) -> Iterator[None]:
        if self._busy:
            raise trio.BusyResourceError("another task is sending on this stream")
        self._busy = True
        try:
            yield
        finally:
            self._busy = False

    def _check_open(self) -> None:
        if self._closed:
            raise trio.ClosedResourceError

    def _check_sending(self) -> None:
        self._check_open()
        if self._ended:
            raise trio.ClosedResourceError("nothing can be sent behind the end")


@contextmanager
def _broken() -> Iterator[None]:
    """Errors of the socket in trio's terms."""
    try:
        yield
    except OSError as exc:
        raise trio.BrokenResourceError(str(exc)) from exc


async def linger(sock: socket.socket, timeout: float = 1.0) -> None:
    """Half-close, and take in what the peer still sends until it closes, for ``timeout`` seconds
    and `_LINGER_OCTETS` at most. Closing while octets lie unread resets the connection, and the
    reset would overtake our last words: a reply, or the TLS alert that says what was wrong."""
    taken = 0
    with trio.move_on_after(timeout, shield=True):
        try:
            sock.shutdown(socket.SHUT_WR)
            while taken < _LINGER_OCTETS:
                await trio.lowlevel.wait_readable(sock)
                octets = sock.recv(_READ_SIZE)
                if not octets:
                    return
                taken += len(octets)
        except OSError:
            return  # the peer is gone: nothing can overtake anything


async def say_goodbye(stream: TransportStream, reply: bytes) -> None:
    """A last reply, and a close that does not overtake it."""
    with trio.move_on_after(1):
        try:
            await stream.send_all(reply)
            await stream.send_eof()
        except trio.BrokenResourceError:
            return
        await linger(stream.transport.sock)


async def connect_tcp(host: str, port: int) -> socket.socket:
    """A connected non-blocking TCP socket, by whichever address of ``host`` answers first.

    Raises:
      OSError: no address answered, or the name does not resolve.
    """
    try:
        stream = await trio.open_tcp_stream(host, port)
    except OSError as exc:
        if (cause := _first_cause(exc)) is None:
            raise
        raise cause from exc
    sock = socket.socket(fileno=stream.socket.detach())
    sock.setblocking(False)
    tune(sock)
    return sock


def _first_cause(exc: OSError) -> OSError | None:
    """Why the first address did not answer, where trio says no more than that none did."""
    cause = exc.__cause__
    while isinstance(cause, BaseExceptionGroup):
        cause = cause.exceptions[0]
    if isinstance(cause, OSError) and cause.errno:
        return OSError(cause.errno, os.strerror(cause.errno))
    return None


async def connect_unix(path: str) -> socket.socket:
    """A connected non-blocking UNIX socket.

    Raises:
      OSError: nobody listens there, or we may not.
    """
    stream = await trio.open_unix_socket(path)
    sock = socket.socket(fileno=stream.socket.detach())
    sock.setblocking(False)
    return sock
