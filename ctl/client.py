"""The control socket from the client's side, blocking: requests, streams, dials.

Every failure is a `ControlError`: the daemon's own, or one of ours when there is no daemon to
answer. Octets are read up to the end of a message and never beyond, so that the connection can
turn into raw bytes after `dial`.
"""

import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from ctl.messages import PROTOCOL_VERSION, ControlError, Decoder, FrameError, Message, encode

HELLO_TIMEOUT = 5.0
"""Seconds for connecting and the greeting, which a daemon answers at once."""

_CREDENTIALS = struct.Struct("iII")  # struct ucred: pid, uid, gid; unix(7)


class ItemStream:
    """The items of one streamed reply, in order; `end` is there once they have all been taken."""

    def __init__(self, items: Iterator[Message]) -> None:
        self._items = items
        self.end: Message = {}

    def __iter__(self) -> Iterator[Message]:
        for reply in self._items:
            if "end" in reply:
                self.end = _as_map(reply["end"] or {})
                return
            yield _as_map(reply.get("item"))


class Client:
    """One connection to a daemon, greeted. Not for use by several threads at once."""

    def __init__(self, sock: socket.socket, path: Path) -> None:
        self._sock = sock
        self._path = path
        self._decoder = Decoder()
        self._last_id = 0
        self.server: Message = {}
        """What the daemon said in its greeting: version, server, pid."""

    @classmethod
    def connect(cls, path: Path, timeout: float = HELLO_TIMEOUT) -> Self:
        """Connect to the daemon at ``path`` and greet it.

        Raises:
          ControlError: no daemon, no permission, not ours, another version, or no answer.
        """
        client = cls(_connect(path, timeout), path)
        try:
            client._greet(timeout)
        except BaseException:
            client.close()
            raise
        return client

    def close(self) -> None:
        """Close the connection; what still runs on it is cancelled by the daemon."""
        self._sock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def request(
        self, method: str, params: Message | None = None, *, timeout: float | None = None
    ) -> Message:
        """Ask and wait for the one reply.

        Args:
          timeout: seconds for the whole reply's parts to keep coming; None waits for ever.
        Raises:
          ControlError: the daemon refused, ended, did not answer in time or answered nonsense.
        """
        self._sock.settimeout(timeout)
        reply = self._receive(self._send(method, params))
        if "result" not in reply:
            raise self._nonsense(f"a reply without result: {sorted(reply)}")
        return _as_map(reply["result"])

    def stream(self, method: str, params: Message | None = None) -> ItemStream:
        """Ask for a streamed reply; taking its items raises as `request` does."""
        self._sock.settimeout(None)
        return ItemStream(self._replies(self._send(method, params)))

    def dial(self, params: Message, timeout: float | None = None) -> tuple[socket.socket, Message]:
        """Have the daemon connect this connection with an endpoint.

        Returns:
          The socket, blocking, on which nothing but the endpoint's octets follow, and what the
          daemon says about the way. The socket is the caller's: this client is used up.
        """
        result = self.request("dial", params, timeout=timeout)
        self._sock.settimeout(None)
        return self._sock, result

    def _greet(self, timeout: float) -> None:
        try:
            self.server = self.request(
                "hello", {"version": PROTOCOL_VERSION, "client": "tunnelctl"}, timeout=timeout
            )
        except ControlError as exc:
            if exc.code == "bad_version" and not exc.hint:
                exc.hint = "use the tunnelctl of the daemon's version, or restart the daemon"
            raise
        version = self.server.get("version")
        if version != PROTOCOL_VERSION:
            raise ControlError(
                "bad_version",
                f"the daemon speaks control protocol {version}, this tunnelctl {PROTOCOL_VERSION}",
                "use the tunnelctl of the daemon's version, or restart the daemon",
            )

    def _send(self, method: str, params: Message | None) -> int:
        self._last_id += 1
        request = {"id": self._last_id, "method": method, "params": params or {}}
        try:
            self._sock.sendall(encode(request))
        except FrameError as exc:
            raise ControlError("bad_request", f"the request is too large: {exc}") from exc
        except OSError as exc:
            raise self._lost(exc) from exc
        return self._last_id

    def _replies(self, request_id: int) -> Iterator[Message]:
        while True:
            yield self._receive(request_id)

    def _receive(self, request_id: int) -> Message:
        """The next message for ``request_id``; an error reply is raised."""
        while True:
            message = self._next_message()
            if message.get("id") == request_id:
                break
            if message.get("id") != 0:  # 0: said unasked, not for us
                raise self._nonsense(f"a reply to request {message.get('id')!r}")
        if "error" in message:
            raise ControlError.from_map(message["error"])
        return message

    def _next_message(self) -> Message:
        try:
            while (message := self._decoder.next_message()) is None:
                data = self._sock.recv(self._decoder.missing())
                if not data:
                    raise self._lost(None)
                self._decoder.feed(data)
        except FrameError as exc:
            raise self._nonsense(str(exc)) from exc
        except OSError as exc:
            raise self._lost(exc) from exc
        return message

    def _lost(self, exc: OSError | None) -> ControlError:
        if isinstance(exc, TimeoutError):
            return ControlError(
                "timeout",
                f"the daemon at {self._path} did not answer in time",
                "it may be overloaded or stopped; see its log, or: tunneld status",
            )
        reason = "closed the connection" if exc is None else f"is gone: {exc.strerror}"
        return ControlError(
            "failed",
            f"the daemon at {self._path} {reason}",
            "it may have been stopped or have refused us; see its log, or: tunneld status",
        )

    def _nonsense(self, what: str) -> ControlError:
        return ControlError(
            "internal",
            f"what listens on {self._path} does not speak the control protocol: {what}",
            "name the daemon's socket with --control, or restart the daemon",
        )


def _connect(path: Path, timeout: float) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.settimeout(timeout)
        sock.connect(os.fspath(path))
        _check_owner(sock, path)
    except OSError as exc:
        sock.close()
        raise _unreachable(path, exc) from exc
    except ControlError:
        sock.close()
        raise
    return sock


def _check_owner(sock: socket.socket, path: Path) -> None:
    """Trust nobody else's daemon: it tells us what to execute (`ns.enter`)."""
    raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    _pid, uid, _gid = _CREDENTIALS.unpack(raw)
    if uid not in (0, os.getuid()):
        raise ControlError(
            "denied",
            f"the daemon at {path} runs as uid {uid}, this is uid {os.getuid()}",
            "run tunnelctl as the daemon's user, or name your own daemon with --control",
        )


def _unreachable(path: Path, exc: OSError) -> ControlError:
    start = "start it with: tunneld start"
    match exc:
        case FileNotFoundError() | NotADirectoryError():
            return ControlError("no_daemon", f"no daemon at {path}", start)
        case ConnectionRefusedError():
            return ControlError(
                "no_daemon", f"no daemon at {path}: nothing listens on that file any more", start
            )
        case PermissionError():
            return ControlError(
                "denied",
                f"no permission for the control socket {path}",
                "run tunnelctl as the daemon's user, or name your own daemon with --control",
            )
        case TimeoutError() | BlockingIOError():
            return ControlError(
                "timeout",
                f"the daemon at {path} does not accept connections",
                "it may be overloaded or stopped; see its log, or: tunneld status",
            )
    return ControlError("no_daemon", f"cannot connect to {path}: {exc.strerror}", start)


def _as_map(value: object) -> Message:
    if not isinstance(value, dict):
        raise ControlError("internal", f"the daemon answered with {value!r}, expected a map")
    return value
