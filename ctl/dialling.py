"""Dials: a socket to an endpoint, through the local daemon or straight to a remote server."""

import socket
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from ctl.address import Address
from ctl.client import Client

DIAL_TIMEOUT = 60.0
"""Seconds; only a guard against a hung daemon, which has shorter limits of its own."""


@dataclass
class Dialled:
    """An open connection to an endpoint. The socket is blocking and the holder's to close."""

    sock: socket.socket
    hops: list[str]
    """The way, from the first program after us to the endpoint's address."""


class Dialer(Protocol):
    """Opens connections; each call may come from another thread."""

    def dial(self, address: Address) -> Dialled:
        """Connect to an endpoint.

        Raises:
          ControlError: it cannot be reached.
        """

    def close(self) -> None:
        """End what was dialled and give up everything held."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class LocalDialer:
    """Dials through the daemon of this machine, by a control connection for each dial."""

    def __init__(self, control: Path, server: str | None = None) -> None:
        self._control = control
        self._server = server

    def dial(self, address: Address) -> Dialled:
        client = Client.connect(self._control)
        try:
            params = {"host": address.host, "port": address.port, "server": self._server}
            sock, result = client.dial(params, timeout=DIAL_TIMEOUT)
        except BaseException:
            client.close()
            raise
        daemon = f"tunneld {client.server.get('pid', '')} ({self._control})"
        return Dialled(sock, [daemon, str(result.get("peer", "server")), str(address)])

    def close(self) -> None:
        """Nothing is held between dials."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
