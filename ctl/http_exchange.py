"""One HTTP/1.1 request and its response over a connected socket, by h11."""

import socket
import ssl
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from urllib.parse import quote, urlsplit

import h11

from ctl.address import MAX_PORT, Address, AddressError, parse_host
from ctl.messages import ControlError
from ctl.reset import receive

_CHUNK = 64 * 1024
_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Url:
    """What of a URL the two layers need: where to connect, and what to ask for."""

    scheme: str
    address: Address
    target: str
    """Path and query, as in the request line."""

    @property
    def authority(self) -> str:
        """For the Host header: without the port where that is the scheme's own."""
        if self.address.port != _DEFAULT_PORTS[self.scheme]:
            return str(self.address)
        return str(self.address).rpartition(":")[0]


@dataclass(frozen=True)
class Request:
    """A request but for its URL."""

    method: str = "GET"
    headers: Sequence[tuple[str, str]] = ()
    body: bytes | None = None


@dataclass(frozen=True)
class Head:
    """A response without its body, or the request that was sent: for showing."""

    line: str
    headers: Sequence[tuple[str, str]] = field(default_factory=list)
    status: int = 0

    def lines(self) -> list[str]:
        """As on the wire."""
        return [self.line, *(f"{name}: {value}" for name, value in self.headers)]


def parse_url(text: str) -> Url:
    """Read an ``http://`` or ``https://`` URL.

    Raises:
      ValueError: another scheme, no host, a bad port; the message gives an example.
    """
    parts = urlsplit(text)
    if parts.scheme not in _DEFAULT_PORTS:
        raise ValueError(f"{text!r} is not a URL; expected one as in http://192.168.1.2:8080/ok")
    if parts.username is not None:
        raise ValueError("a name and password in the URL are not used; give them with --header")
    try:
        port = parts.port if parts.port is not None else _DEFAULT_PORTS[parts.scheme]
        host = _parse_host(parts.hostname or "")
    except AddressError:
        raise
    except ValueError as exc:
        raise ValueError(f"{text!r}: {exc}; a port is 1-{MAX_PORT}") from exc
    if not port:
        raise ValueError(f"{text!r}: port 0 is out of range; expected 1-{MAX_PORT}")
    target = quote(parts.path or "/", safe="/%:@!$&'()*+,;=-._~")
    if parts.query:
        target += "?" + quote(parts.query, safe="/%:@!$&'()*+,;=-._~?")
    return Url(parts.scheme, Address(host, port), target)


def open_tls(sock: socket.socket, host: str, cacert: str | None, insecure: bool) -> ssl.SSLSocket:
    """TLS with the endpoint, inside the tunnel.

    Raises:
      ControlError: its certificate is not trusted, or it does not speak TLS.
    """
    context = ssl.create_default_context(cafile=cacert)
    context.set_alpn_protocols(["http/1.1"])
    if insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    try:
        return context.wrap_socket(sock, server_hostname=host)
    except ssl.SSLCertVerificationError as exc:
        raise ControlError(
            "failed",
            f"the certificate of {host} is not trusted: {exc.verify_message}",
            "name its CA with --cacert FILE, or go without checking by --insecure",
        ) from exc
    except ssl.SSLError as exc:
        raise ControlError(
            "failed", f"no TLS with {host}: {exc.reason or exc}", "is it an http:// endpoint?"
        ) from exc
    except OSError as exc:
        raise ControlError(
            "failed", f"no TLS with {host}: {exc.strerror or exc}", "is it an http:// endpoint?"
        ) from exc


class Exchange:
    """A request and its response. Network errors and nonsense become `ControlError`."""

    def __init__(self, sock: socket.socket, url: Url, request: Request) -> None:
        self._sock = sock
        # Inside TLS a break-off shows by itself.
        self._receive = sock.recv if isinstance(sock, ssl.SSLSocket) else partial(receive, sock)
        self._url = url
        self._request = request
        self._connection = h11.Connection(h11.CLIENT)

    def send(self) -> Head:
        """Send the request; what was sent, for showing."""
        headers = _with_defaults(self._url, self._request)
        try:
            message = h11.Request(
                method=self._request.method,
                target=self._url.target,
                headers=[(_to_octets(name), _to_octets(value)) for name, value in headers],
            )
            wire = self._connection.send(message) or b""
        except h11.LocalProtocolError as exc:
            raise ControlError("bad_request", f"not a valid request: {exc}") from exc
        if self._request.body:
            wire += self._connection.send(h11.Data(self._request.body)) or b""
        wire += self._connection.send(h11.EndOfMessage()) or b""
        try:
            self._sock.sendall(wire)
        except (BrokenPipeError, ConnectionResetError):
            pass  # refused before it was read whole: the response may say why
        return Head(f"{self._request.method} {self._url.target} HTTP/1.1", headers)

    def receive_head(self) -> Head:
        """The response's head; 1xx responses before it are passed over."""
        while True:
            event = self._next_event()
            if isinstance(event, h11.Response):
                reason = event.reason.decode("latin-1")
                version = event.http_version.decode("ascii")
                return Head(
                    f"HTTP/{version} {event.status_code} {reason}".rstrip(),
                    [
                        (n.decode("latin-1"), v.decode("latin-1"))
                        for n, v in event.headers.raw_items()
                    ],
                    event.status_code,
                )
            if not isinstance(event, h11.InformationalResponse):
                raise ControlError("failed", "the endpoint ended without a response")

    def body(self) -> Iterator[bytes]:
        """The response's body, as it comes."""
        while not isinstance(event := self._next_event(), h11.EndOfMessage):
            if isinstance(event, h11.Data):
                yield bytes(event.data)

    def _next_event(self) -> object:
        try:
            while (event := self._connection.next_event()) is h11.NEED_DATA:
                self._connection.receive_data(self._receive(_CHUNK))
        except h11.RemoteProtocolError as exc:
            raise ControlError(
                "failed",
                f"the response is broken off or not HTTP/1.1: {exc}",
                "see what is there with: tunnelctl dial " + str(self._url.address),
            ) from exc
        except TimeoutError as exc:
            raise ControlError(
                "timeout", f"{self._url.address} sent nothing for too long", "see --timeout"
            ) from exc
        except OSError as exc:
            raise ControlError("failed", f"the connection broke: {exc.strerror or exc}") from exc
        return event


def _with_defaults(url: Url, request: Request) -> list[tuple[str, str]]:
    given = {name.lower() for name, _value in request.headers}
    defaults = [("Host", url.authority), ("User-Agent", "tunnelctl"), ("Accept", "*/*")]
    if request.body is not None:
        defaults.append(("Content-Type", "application/x-www-form-urlencoded"))
        defaults.append(("Content-Length", str(len(request.body))))
    defaults.append(("Connection", "close"))
    return [pair for pair in defaults if pair[0].lower() not in given] + list(request.headers)


def _to_octets(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _parse_host(host: str) -> str:
    """A host as DNS has it: `bücher.example` is `xn--bcher-kva.example`."""
    if not host.isascii():
        host = host.encode("idna").decode("ascii")
    return parse_host(f"[{host}]")  # urlsplit took off the brackets of an IPv6 address
