"""A request for the WebSocket that carries a tunnel: checked ahead of trio-websocket, which takes
any path and answers little."""

from dataclasses import dataclass, field
from http import HTTPStatus

import h11

from tunneld.server.forwarded import FIELD
from tunneld.transport.websocket import MAX_HEAD, SUBPROTOCOL

_VERSION = b"13"
"""RFC 6455 section 4.2.1."""


@dataclass(frozen=True, slots=True)
class Request:
    """A valid one."""

    forwarded: list[bytes] = field(default_factory=list)
    """Values of the fields that say where it comes from."""


class RefusedError(Exception):
    """It is not valid; ``reply`` says so, and the connection is closed after it."""

    def __init__(self, status: HTTPStatus, text: str, *fields: tuple[str, str]) -> None:
        super().__init__(f"{status.value} {text}")
        body = f"{text}\n"
        lines = [
            f"HTTP/1.1 {status.value} {status.phrase}",
            "Content-Type: text/plain; charset=utf-8",
            f"Content-Length: {len(body.encode())}",
            "Connection: close" + "".join(f", {name}" for name, _ in fields if name == "Upgrade"),
            *(f"{name}: {value}" for name, value in fields),
        ]
        self.reply = ("\r\n".join(lines) + "\r\n\r\n" + body).encode()


def parse_upgrade(head: bytes, path: str) -> Request:
    """Check the head of a request.

    Args:
      path: that it must ask for, with no other query than that has.
    Raises:
      RefusedError: 404, 426 or 400.
    """
    request = _parse(head)
    if request.target.decode("ascii") != path:
        raise RefusedError(HTTPStatus.NOT_FOUND, f"nothing is there; the tunnel is at {path}")
    fields: dict[bytes, list[bytes]] = {}
    for name, value in request.headers:
        fields.setdefault(name, []).append(value)
    if request.http_version < b"1.1":
        raise RefusedError(
            HTTPStatus.UPGRADE_REQUIRED,
            "HTTP/1.1 is spoken here; nginx has to be told so: proxy_http_version 1.1",
            ("Upgrade", "websocket"),
        )
    if request.method != b"GET" or "websocket" not in _tokens(fields, b"upgrade"):
        raise RefusedError(
            HTTPStatus.UPGRADE_REQUIRED,
            "a WebSocket is spoken here; does a proxy in between drop the Upgrade field?",
            ("Upgrade", "websocket"),
        )
    if fields.get(b"sec-websocket-version") != [_VERSION]:
        raise RefusedError(
            HTTPStatus.UPGRADE_REQUIRED,
            "version 13 of WebSocket is spoken here",
            ("Upgrade", "websocket"),
            ("Sec-WebSocket-Version", _VERSION.decode()),
        )
    _check_handshake(fields)
    return Request(fields.get(FIELD, []))


def _parse(head: bytes) -> h11.Request:
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD + 1)
    try:
        connection.receive_data(head)
        event = connection.next_event()
    except h11.RemoteProtocolError as exc:
        raise _bad(f"no HTTP request: {exc}") from exc
    if not isinstance(event, h11.Request):
        raise _bad("no HTTP request")
    return event


def _check_handshake(fields: dict[bytes, list[bytes]]) -> None:
    """What trio-websocket would trip over."""
    if "upgrade" not in _tokens(fields, b"connection"):
        raise _bad("the Connection field does not have: Upgrade")
    if len(fields.get(b"sec-websocket-key", [])) != 1:
        raise _bad("not one Sec-WebSocket-Key field")
    if b"transfer-encoding" in fields or fields.get(b"content-length", [b"0"]) != [b"0"]:
        raise _bad("a body")
    if SUBPROTOCOL not in _tokens(fields, b"sec-websocket-protocol"):
        raise _bad(f"Sec-WebSocket-Protocol does not have {SUBPROTOCOL}: that is no tunneld agent")
    for values in fields.values():
        if not all(value.isascii() for value in values):
            raise _bad("octets in the head that are not ASCII")
    try:
        fields[b"host"][0].decode("idna")
    except (KeyError, UnicodeError):
        raise _bad("no host name in the Host field") from None


def _tokens(fields: dict[bytes, list[bytes]], name: bytes) -> set[str]:
    """Of a comma-separated field, in lower case."""
    values = b",".join(fields.get(name, [])).decode("latin-1").lower()
    return {token.strip() for token in values.split(",")}


def _bad(text: str) -> RefusedError:
    return RefusedError(HTTPStatus.BAD_REQUEST, text)
