"""The listening sockets that this process has opened itself, for a successor to take over
(`tunneld.upgrade`)."""

import weakref
from collections.abc import Iterator
from typing import Protocol


class Listening(Protocol):
    """A listening socket: Python's or trio's."""

    def fileno(self) -> int:
        """-1 once it is closed."""


class OpenListeners:
    """Sockets by the address that the configuration has for them."""

    def __init__(self) -> None:
        self._open: list[tuple[str, weakref.ref[Listening]]] = []
        self.given_away = False
        """Whether a successor has them all: files of UNIX sockets are its own then."""

    def add(self, address: str, sock: Listening) -> None:
        """Note a socket; it is forgotten when it is closed."""
        self._open = [(each, ref) for each, ref in self._open if _is_open(ref)]
        self._open.append((address, weakref.ref(sock)))

    def __iter__(self) -> Iterator[tuple[str, int]]:
        """Address and descriptor of those that are open."""
        for address, ref in self._open:
            sock = ref()
            if sock is not None and sock.fileno() >= 0:
                yield address, sock.fileno()


def _is_open(ref: "weakref.ref[Listening]") -> bool:
    sock = ref()
    return sock is not None and sock.fileno() >= 0


open_listeners = OpenListeners()
"""Those of this process."""
