"""CONNECT through an HTTP proxy (RFC 9110 section 9.3.6)."""

import re

import h11
import trio

from ctl.address import Address
from tunneld.proxyurl import Proxy
from tunneld.session import SessionError
from tunneld.transport.stream import TransportStream

MAX_HEAD = 16 * 1024
"""Octets of the proxy's answer."""
_MAX_INTERIM = 10
"""1xx responses ahead of it."""
_UNPRINTABLE = re.compile(r"[^\x20-\x7e]")


async def connect_through(stream: TransportStream, proxy: Proxy, target: Address) -> None:
    """Have the proxy at the other end of ``stream`` connect it to ``target``.

    Raises:
      SessionError: it does not, with what it said.
    """
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD)
    headers = [(b"Host", str(target).encode())]
    if proxy.credentials:
        headers.append((b"Proxy-Authorization", proxy.authorization))
    try:
        request = h11.Request(method=b"CONNECT", target=str(target).encode(), headers=headers)
    except h11.LocalProtocolError as exc:
        raise SessionError(f"{target} is nothing that HTTP can ask for: {exc}") from exc
    try:
        await stream.send_all(connection.send(request) or b"")
        await stream.send_all(connection.send(h11.EndOfMessage()) or b"")
        response = await _receive_response(stream, connection)
    except (trio.BrokenResourceError, EOFError) as exc:
        raise SessionError(f"{_name(proxy)} closed the connection amid CONNECT: {exc}") from exc
    except h11.RemoteProtocolError as exc:
        text = f"{_name(proxy)} answers CONNECT with what is no HTTP: {exc}"
        raise SessionError(text[:400]) from exc
    if not 200 <= response.status_code < 300:
        raise SessionError(_refusal(response, proxy, target))
    if early := connection.trailing_data[0]:
        text = f"{len(early)} octets behind its {response.status_code}, before we said a word"
        raise SessionError(f"{_name(proxy)} sends {text}: is there TLS at {target}?")


async def _receive_response(stream: TransportStream, connection: h11.Connection) -> h11.Response:
    interim = 0
    seen = b""
    while True:
        event = connection.next_event()
        if isinstance(event, h11.Response):
            return event
        if isinstance(event, h11.InformationalResponse):
            interim += 1
            if interim > _MAX_INTERIM:
                raise h11.RemoteProtocolError(f"more than {_MAX_INTERIM} interim responses")
            continue
        data = await stream.receive_some(MAX_HEAD)
        if not data:
            raise EOFError(f"behind {seen[:60]!r}" if seen else "without a word")
        seen = (seen + data)[:60]
        if not seen[:5].startswith(b"HTTP/"[: len(seen)]):
            raise h11.RemoteProtocolError(repr(seen))
        connection.receive_data(data)


def _refusal(response: h11.Response, proxy: Proxy, target: Address) -> str:
    reason = response.reason.decode("latin-1")
    said = f"{_name(proxy)} answers CONNECT {target} with {response.status_code} {reason}".rstrip()
    fields = {name: value.decode("latin-1") for name, value in response.headers}
    if status := fields.get(b"proxy-status"):
        said += f" ({status})"
    if response.status_code == 407:
        schemes = fields.get(b"proxy-authenticate", "nothing it names")
        known = "it does not take the credentials" if proxy.credentials else "it wants credentials"
        said += f": {known}; it offers {schemes}, tunneld knows Basic: see http-proxy"
    return _UNPRINTABLE.sub("?", said)[:400]


def _name(proxy: Proxy) -> str:
    return f"the HTTP proxy {proxy}"
