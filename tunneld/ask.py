"""One request to a running daemon, blocking: for `tunneld stop` and `status`, without Trio."""

import socket
from pathlib import Path
from typing import Any

from ctl.messages import PROTOCOL_VERSION, ControlError, Decoder, FrameError, Message, encode
from tunneld.lockfile import lock_holder
from tunneld.places import socket_lock_path

TIMEOUT = 10.0
"""Seconds for each part of the conversation."""


def ask(control: Path, method: str, params: dict[str, Any] | None = None) -> tuple[Message, int]:
    """The result of a request, and the pid of the daemon that answered.

    Raises:
      ControlError: ``no_daemon``, ``timeout``, or the daemon's refusal.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(TIMEOUT)
        try:
            sock.connect(str(control))
            hello = _call(sock, 1, "hello", {"version": PROTOCOL_VERSION, "client": "tunneld"})
            return _call(sock, 2, method, params or {}), int(hello["pid"])
        except TimeoutError as exc:
            holder = lock_holder(socket_lock_path(control)) or {}
            raise ControlError(
                "timeout",
                f"the daemon at {control} does not answer",
                f"wait, or end it: kill -9 {holder.get('pid', 'PID')}",
            ) from exc
        except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError) as exc:
            raise ControlError(
                "no_daemon", f"no daemon at {control}", "start it with: tunneld start"
            ) from exc
        except FrameError as exc:
            raise ControlError("internal", f"no daemon of ours at {control}: {exc}") from exc
        except OSError as exc:
            raise ControlError("failed", f"cannot talk to {control}: {exc.strerror}") from exc


def _call(sock: socket.socket, number: int, method: str, params: dict[str, Any]) -> Message:
    sock.sendall(encode({"id": number, "method": method, "params": params}))
    decoder = Decoder()
    while (reply := decoder.next_message()) is None:
        data = sock.recv(decoder.missing())
        if not data:
            raise FrameError("it closed the connection")
        decoder.feed(data)
    if "error" in reply:
        raise ControlError.from_map(reply["error"])
    result: Message = reply.get("result") or {}
    return result
