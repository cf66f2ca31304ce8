"""Clients of a server, one interface for all transports: `Client.dial`.

`Bridge` dials by konnectivity's own client library, in a Go program of ours. `Connect` is written
as kube-apiserver is: one request head, the reply by a buffered reader, and an error if there is
anything behind the reply's head.
"""

import json
import ssl
import struct
import subprocess
from abc import ABC, abstractmethod
from pathlib import Path
from socket import SO_LINGER, SOL_SOCKET
from typing import NamedTuple

import trio

from tests.interop.konnectivity.processes import Process

BUFFER = 4096
"""Octets of Go's bufio.Reader."""
DIAL_ID = r" \(dial [0-9a-z]{5}-\d+\)"
"""What our server has behind the text of a failed dial, for `tunnelctl trace --last`."""


class DialError(Exception):
    """A dial that failed, with the text that the client was given."""

    def __init__(self, text: str, reason: str = "") -> None:
        super().__init__(text)
        self.reason = reason
        """konnectivity-client's word for why; for CONNECT, the status code."""


class DirtyStartError(DialError):
    """Octets of the target came with the reply, or in its place."""


class Place(NamedTuple):
    """Where a server has its clients: a TCP port on loopback with TLS, or a UNIX socket."""

    port: int
    path: Path | None = None


class Client(ABC):
    """Something that dials through a server."""

    @abstractmethod
    async def dial(self, address: str, timeout: float = 0) -> trio.abc.Stream:
        """Connect to ``address``.

        Args:
          timeout: seconds; 0 means as long as this kind of client waits by itself.
        Raises:
          DialError: the server's answer, or that it did not come.
        """

    def close(self) -> None:  # noqa: B027  (most have nothing to do)
        """End what dials share."""


class Bridge(Client):
    """`peers/cmd/bridge`, and its one process."""

    def __init__(
        self, program: Path, directory: Path, pki: Path, place: Place, *, reusable: bool
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.path = directory / "bridge"
        argv = [str(program), f"--listen={self.path}"]
        if place.path:
            argv += [f"--proxy={place.path}"]
        else:
            frontend = pki / "frontend"
            argv += [f"--proxy=127.0.0.1:{place.port}", f"--ca-cert={frontend / 'ca.crt'}"]
            argv += [f"--cert={frontend / 'client.crt'}", f"--key={frontend / 'client.key'}"]
        if reusable:
            argv += ["--reusable"]
        self.process = Process("bridge", argv, directory / "bridge.log")
        self.process.start(stdout=subprocess.PIPE)
        if self.process.read_line() != "ready\n":
            raise RuntimeError(f"the bridge did not start: {self.process.log_text()}")

    async def dial(self, address: str, timeout: float = 0) -> trio.abc.Stream:
        stream = await trio.open_unix_socket(self.path)
        try:
            request = json.dumps({"address": address, "timeout": timeout})
            await stream.send_all(request.encode() + b"\n")
            answer = json.loads(await _line(stream))
        except BaseException:
            await trio.aclose_forcefully(stream)
            raise
        if "error" in answer:
            await stream.aclose()
            raise DialError(answer["error"], answer["reason"])
        return stream

    def close(self) -> None:
        self.process.kill()


async def _line(stream: trio.SocketStream) -> bytes:
    """Octet by octet, so that none of the tunnelled connection's are taken."""
    line = b""
    while not line.endswith(b"\n"):
        octet = await stream.receive_some(1)
        if not octet:
            raise DialError("the bridge hung up", "bridge")
        line += octet
    return line


class Connect(Client):
    """HTTP CONNECT on TLS with a client's certificate, or on a UNIX socket."""

    def __init__(self, pki: Path, place: Place) -> None:
        self.place = place
        self.context = ssl.create_default_context(cafile=str(pki / "frontend/ca.crt"))
        self.context.load_cert_chain(pki / "frontend/client.crt", pki / "frontend/client.key")
        self.abandons_by_reset = False
        """Whether a cancelled dial on TLS ends with a RST."""

    async def dial(self, address: str, timeout: float = 0) -> trio.abc.Stream:
        with trio.move_on_after(timeout or float("inf")):
            try:
                stream = await self._open()
            except (OSError, trio.BrokenResourceError) as exc:
                raise DialError(str(exc), "connect") from exc
            try:
                await _connect(stream, address)
            except BaseException:
                if self.abandons_by_reset and isinstance(stream, trio.SSLStream):
                    linger = struct.pack("ii", 1, 0)
                    stream.transport_stream.setsockopt(SOL_SOCKET, SO_LINGER, linger)
                await trio.aclose_forcefully(stream)
                raise
            return stream
        raise DialError("dial timeout", "timeout")

    async def _open(self) -> trio.abc.Stream:
        if self.place.path:
            return await trio.open_unix_socket(self.place.path)
        transport = await trio.open_tcp_stream("127.0.0.1", self.place.port)
        stream = trio.SSLStream(transport, self.context, server_hostname="127.0.0.1")
        try:
            await stream.do_handshake()
        except BaseException:
            await trio.aclose_forcefully(transport)
            raise
        return stream


async def _connect(stream: trio.abc.Stream, address: str) -> None:
    """One CONNECT, as kube-apiserver does it.

    Raises:
      DirtyStartError: an octet more than the reply's head came with it, or it is no such head.
      DialError: any other reply, or none.
    """
    try:
        await stream.send_all(f"CONNECT {address} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
        got = bytes(await stream.receive_some(BUFFER))
        while got and b"\r\n\r\n" not in got and got.startswith(b"HTTP/"):
            more = bytes(await stream.receive_some(BUFFER))
            if not more:
                break
            got += more
    except (OSError, trio.BrokenResourceError) as exc:
        raise DialError(f"no reply: {exc.__cause__ or exc}", "closed") from exc
    if not got:
        raise DialError("no reply", "closed")
    head, end, behind = got.partition(b"\r\n\r\n")
    version, _, status = head.partition(b"\r\n")[0].partition(b" ")
    if not version.startswith(b"HTTP/1.") or not end:
        raise DirtyStartError(f"malformed reply {got[:40]!r}", "malformed")
    if not status.startswith(b"200 "):
        body = behind + await _rest(stream)
        raise DialError(body.decode(errors="replace"), status[:3].decode())
    if behind:
        raise DirtyStartError(f"unexpected {len(behind)} octets of buffered data", "dirty")


async def _rest(stream: trio.abc.Stream) -> bytes:
    """What an answer still has, to its end."""
    octets = b""
    try:
        while more := bytes(await stream.receive_some(BUFFER)):
            octets += more
    except (OSError, trio.BrokenResourceError):
        pass
    return octets
