"""A transport with TLS, driven through memory buffers in large chunks.

`ssl.SSLSocket` and `trio.SSLStream` cost a system call or a task switch for each record; here one
`recv` brings many records in, and one `send` takes many out.
"""

import errno
import socket
import ssl
from collections import deque
from collections.abc import Callable
from enum import Enum
from typing import cast

from tunneld.transport.base import WOULD_BLOCK, abort_socket

_CHUNK = 256 * 1024
"""Octets that are in OpenSSL's buffers at once, at most: it keeps them, grown to that size, for as
long as the connection lives."""
_SMALL = 4 * 1024
"""Octets of a message that will not fill them."""
_RECORD = 16 * 1024
_HEADROOM = 64
"""Octets for the framing of one record; it takes another 22 for each of 16 KiB."""


class _Shut(Enum):
    """How far our half-close is."""

    NOT_YET = 0
    REQUESTED = 1
    DONE = 2


_cipher = memoryview(bytearray(_CHUNK + (_CHUNK >> 8) + _HEADROOM))
"""Shared by all transports of the process: it holds octets only within one call."""


class TlsTransport:
    """See `tunneld.transport.base.Transport`. `handshake_step` must have returned True first.

    TLS 1.3 half-closes as TCP does: `send_eof` sends close_notify, and reading goes on. A TCP FIN
    without one is an error, unless ``fin_is_end``.

    Args:
      fin_is_end: whether a FIN between two records is an end too. Many programs end like that
        (Python's ssl among them), and Go takes it for one; amid a record it is always an error.
    """

    __slots__ = (
        "_amid_record",
        "_blocked",
        "_cipher",
        "_early",
        "_encrypted",
        "_eof",
        "_fin_is_end",
        "_incoming",
        "_outgoing",
        "_queue",
        "_queued",
        "_read",
        "_shut",
        "has_pending",
        "sock",
        "tls",
    )

    def __init__(
        self,
        sock: socket.socket,
        context: ssl.SSLContext,
        *,
        server_side: bool,
        server_hostname: str | None = None,
        fin_is_end: bool = False,
    ) -> None:
        self.sock = sock
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self.tls = context.wrap_bio(
            self._incoming, self._outgoing, server_side=server_side, server_hostname=server_hostname
        )
        # With a buffer it returns a length, whatever the stubs say.
        self._read = cast("Callable[[int, memoryview], int]", self.tls.read)
        self._cipher: list[bytes | memoryview] = []
        """Records that are to be sent, before those in ``_outgoing``."""
        self._blocked = False
        """Whether the socket has not taken all of them; until it has, nothing is encrypted."""
        self._encrypted = 0
        """Octets of ours in records that have not all been taken."""
        self._queue: deque[bytearray] = deque()
        """Octets that are not encrypted yet, in pieces of no more than `_CHUNK`."""
        self._queued = 0
        self._early = bytearray()
        self._fin_is_end = fin_is_end
        self._amid_record = False
        self.has_pending = False
        self._eof = False
        self._shut = _Shut.NOT_YET

    def handshake_step(self) -> bool:
        """Go on with the handshake as far as it goes without waiting; whether it is complete.

        Raises:
          ssl.SSLError: it failed; the alert for the peer has been sent as far as it could be.
          EOFError: the peer closed amid it.
        """
        # A client speaks first. OpenSSL takes 32 KiB of memory as soon as it is asked, so that is
        # not before a server has something for it: many connect, and say nothing.
        while not self.tls.server_side or self._fill_amid_handshake():
            try:
                self.tls.do_handshake()
            except ssl.SSLWantReadError:
                complete = False
            except ssl.SSLError:
                self._send_alert()
                raise
            else:
                complete = True
            self._send_cipher()
            if complete:
                return True
            if not self.tls.server_side and not self._fill_amid_handshake():
                break
        return False

    def _fill_amid_handshake(self) -> bool:
        filled = self._fill(_RECORD)
        if not filled:
            raise EOFError("the peer closed the connection amid the TLS handshake")
        return filled != WOULD_BLOCK

    def receive_into(self, view: memoryview) -> int:
        if self.has_pending or self._incoming.pending:
            if self._early:
                return self._take_early(view)
            size = WOULD_BLOCK if self._eof else self._decrypt(view)
            if size != WOULD_BLOCK:  # else it was a part of a record
                return size
        if self._eof:
            self.has_pending = False
            return 0
        wanted = len(view)
        if wanted < _RECORD:
            wanted = _RECORD
        elif wanted > _CHUNK:
            wanted = _CHUNK
        filled = self._fill(wanted)
        if filled > 0:
            return self._decrypt(view)
        if not filled:
            self._end_without_notice()
        return filled

    def send(self, data: memoryview) -> None:
        if self._blocked or self._queue:
            self._keep(data)
        elif len(data) < _SMALL:
            self._encrypted += len(data)
            self.tls.write(data)
        else:
            self._encrypt(data)

    def flush(self) -> bool:
        while self._send_cipher():
            if not self._queue:
                if self._shut is _Shut.REQUESTED:
                    self._shut = _Shut.DONE
                    self.sock.shutdown(socket.SHUT_WR)
                return True
            piece = self._queue.popleft()
            self._queued -= len(piece)
            self._encrypt(memoryview(piece))
        return False

    @property
    def unsent(self) -> int:
        return self._encrypted + self._queued

    def send_eof(self) -> bool:
        # OpenSSL's second SSL_shutdown, which Python always makes, fails on application data
        # that it finds; so what has come is decrypted first.
        while self._incoming.pending or self.has_pending:
            chunk = memoryview(bytearray(_RECORD))
            size = self._decrypt(chunk)
            if size <= 0:
                break
            self._early += chunk[:size]
        self.has_pending = bool(self._early)
        try:
            self.tls.unwrap()
        except (ssl.SSLWantReadError, ssl.SSLZeroReturnError):
            pass  # the peer's close_notify has not come yet, or came before
        self._shut = _Shut.REQUESTED
        return self.flush()

    def close(self) -> None:
        self.sock.close()

    def abort(self) -> None:
        abort_socket(self.sock)

    def _fill(self, wanted: int) -> int:
        """One read of the socket into the TLS object: records with some ``wanted`` octets, one
        record at least. More than the caller has room for would be kept for many connections."""
        try:
            size = self.sock.recv_into(_cipher, wanted + (wanted >> 8) + _HEADROOM)
        except BlockingIOError:
            return WOULD_BLOCK
        self._incoming.write(_cipher[:size])
        return size

    def _end_without_notice(self) -> None:
        """FIN, but no close_notify. OpenSSL is not told: it would refuse to send, too."""
        if not self._fin_is_end:
            raise ConnectionResetError(errno.ECONNRESET, "connection closed without close_notify")
        if self._amid_record:
            raise ConnectionResetError(errno.ECONNRESET, "connection closed amid a TLS record")
        self._eof = True

    def _keep(self, data: memoryview) -> None:
        """Queue octets: in pieces, as one array that grows is copied as it does."""
        self._queued += len(data)
        if self._queue and len(self._queue[-1]) + len(data) <= _RECORD:
            self._queue[-1] += data
            return
        for start in range(0, len(data), _CHUNK):
            self._queue.append(bytearray(data[start : start + _CHUNK]))

    def _encrypt(self, data: memoryview) -> None:
        self._encrypted += len(data)
        for start in range(0, len(data), _CHUNK):
            piece = data[start : start + _CHUNK]
            if self._outgoing.pending + len(piece) > _CHUNK:
                self._cipher.append(self._outgoing.read())
            self.tls.write(piece)

    def _decrypt(self, view: memoryview) -> int:
        read, incoming = self._read, self._incoming
        pos, limit = 0, len(view)
        self.has_pending = False
        try:
            while pos < limit:
                size = read(limit - pos, view[pos:] if pos else view)
                if not size:  # close_notify
                    self._eof = True
                    break
                pos += size
                if not incoming.pending and (pos < limit or not self.tls.pending()):
                    self._amid_record = False  # OpenSSL takes no more than one from the buffer
                    return pos
        except ssl.SSLWantReadError:
            # Or behind one that was no data, a key update say; to a FIN there we are too strict.
            self._amid_record = True
            if self._outgoing.pending:  # an answer of TLS itself, to a key update for one
                self._send_cipher()
            return pos or WOULD_BLOCK
        except ssl.SSLZeroReturnError:
            self._eof = True
        except ssl.SSLError:
            self._send_alert()
            raise
        self.has_pending = pos > 0
        return pos

    def _take_early(self, view: memoryview) -> int:
        size = min(len(view), len(self._early))
        view[:size] = self._early[:size]
        del self._early[:size]
        return size

    def _send_alert(self) -> None:
        """Tell the peer what was wrong, as far as that goes: TLS is broken for good."""
        try:
            self._send_cipher()
        except OSError:
            pass  # the peer is gone

    def _send_cipher(self) -> bool:
        """Send records; whether all have left."""
        cipher = self._cipher
        if self._outgoing.pending:
            cipher.append(self._outgoing.read())
            if self._shut is _Shut.DONE:  # an answer of TLS itself: it has nobody to go to
                cipher.clear()
        if cipher:
            try:
                sent = self.sock.send(cipher[0]) if len(cipher) == 1 else self.sock.sendmsg(cipher)
            except BlockingIOError:
                sent = 0
            while cipher and sent >= len(cipher[0]):
                sent -= len(cipher.pop(0))
            if cipher:
                cipher[0] = memoryview(cipher[0])[sent:]
                self._blocked = True
                return False
            self._blocked = False
            self._encrypted = 0
        return True
