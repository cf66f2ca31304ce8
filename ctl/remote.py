"""Dials through a remote server, with no daemon: the one place of `ctl` that runs Trio.

A thread runs Trio with a task for each dialled connection, which relays between the tunnel's
stream and one end of a socket pair. The command gets the other end, and works with it as with
the daemon's socket.
"""

import socket
import threading
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from types import TracebackType
from typing import Any, Protocol, Self

import trio

from ctl.address import Address
from ctl.dialling import DIAL_TIMEOUT, Dialled
from ctl.messages import ControlError
from ctl.reset import receive_into, send_reset
from tunneld.client import DialError, connect

CHUNK = 64 * 1024
"""Octets that one direction moves at once."""


class TunnelClient(Protocol):
    """What we use of `tunneld.client.Client`."""

    async def dial(self, host: str, port: int) -> trio.abc.HalfCloseableStream: ...


Connect = Callable[[], AbstractAsyncContextManager[TunnelClient]]


class RemoteDialer:
    """Dials through a server's frontend; see `ctl.dialling.Dialer`.

    Each dial makes a connection of its own to the server, so that none can take others along.
    """

    def __init__(self, proxy: str, connect: Connect) -> None:
        self._proxy = proxy
        self._connect = connect
        self._token: trio.lowlevel.TrioToken | None = None
        self._scope = trio.CancelScope()
        self._carrying: trio.Nursery | None = None
        self._started = threading.Event()
        self._thread = threading.Thread(target=trio.run, args=(self._run,), daemon=True)
        self._thread.start()
        self._started.wait()

    def dial(self, address: Address) -> Dialled:
        """Connect to the server and through it to an endpoint.

        Raises:
          ControlError: one of the two cannot be reached.
        """
        ours, theirs = socket.socketpair()
        try:
            trio.from_thread.run(self._open, address, theirs, trio_token=self._token)
        except BaseException:
            ours.close()
            theirs.close()
            raise
        return Dialled(ours, [f"server {self._proxy}", str(address)])

    def close(self) -> None:
        """Cut what is still open, and end the thread."""
        if self._token is not None:
            self._token.run_sync_soon(self._scope.cancel)
            self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    async def _run(self) -> None:
        async with trio.open_nursery() as self._carrying:
            self._scope = self._carrying.cancel_scope
            self._token = trio.lowlevel.current_trio_token()
            self._started.set()
            await trio.sleep_forever()

    async def _open(self, address: Address, sock: socket.socket) -> None:
        assert self._carrying is not None
        try:
            with trio.fail_after(DIAL_TIMEOUT):
                await self._carrying.start(self._carry, address, sock)
        except DialError as exc:
            raise ControlError(exc.code, exc.message, exc.hint) from exc
        except trio.TooSlowError as exc:
            raise ControlError(
                "timeout",
                f"{address} was not reached within {DIAL_TIMEOUT:.0f} s",
                f"see whether the server {self._proxy} answers",
            ) from exc

    async def _carry(
        self, address: Address, sock: socket.socket, task_status: trio.TaskStatus[None]
    ) -> None:
        async with self._connect() as client:
            stream = await client.dial(*address)
            local = trio.SocketStream(trio.socket.from_stdlib_socket(sock))
            task_status.started()
            async with local:
                await _relay(stream, local, sock)


async def _relay(
    stream: trio.abc.HalfCloseableStream, local: trio.SocketStream, sock: socket.socket
) -> None:
    """Carry octets both ways until both have ended, and close ``stream``.

    If one side is cut, so is the other: ``local`` by a reset, and ``stream`` by being left open,
    since the client resets what is open at its own end.

    Args:
      sock: the socket that ``local`` wraps.
    """
    whole = False
    try:
        async with trio.open_nursery() as directions:
            directions.start_soon(_copy_in, stream, local)
            directions.start_soon(_copy_out, sock, stream)
        await stream.aclose()
        whole = True
    except* (trio.BrokenResourceError, ConnectionResetError):
        pass  # told below
    finally:
        if not whole:
            send_reset(sock)


async def _copy_in(stream: trio.abc.ReceiveStream, local: trio.SocketStream) -> None:
    while data := await stream.receive_some(CHUNK):
        await local.send_all(data)
    await local.send_eof()


async def _copy_out(sock: socket.socket, stream: trio.abc.HalfCloseableStream) -> None:
    buffer = memoryview(bytearray(CHUNK))
    size = -1
    while size:
        await trio.lowlevel.wait_readable(sock)
        size, is_reset = receive_into(sock, buffer)
        await stream.send_all(buffer[:size])
        if is_reset:
            raise ConnectionResetError
    await stream.send_eof()


def open_remote(proxy: str, **options: Any) -> RemoteDialer:
    """A dialer through the frontend at ``proxy``, ``HOST:PORT`` or ``unix:/path``.

    Args:
      options: ``cert``, ``key``, ``ca`` (paths), ``server_name`` and ``secret``, as
        `tunneld.client.connect` has them.
    """
    return RemoteDialer(proxy, partial(connect, proxy, **options))
