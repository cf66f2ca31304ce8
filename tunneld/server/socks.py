"""SOCKS5 on a frontend: CONNECT, with names resolved by the agent."""

from collections.abc import Callable
from typing import TypeVar

from tunneld.caller import Caller
from tunneld.dialing import (
    AGENT_TIMEOUT,
    NAME_TIMEOUT,
    NO_AGENT,
    PROHIBITED,
    REFUSED,
    TIMEOUT,
    UNKNOWN_NAME,
    UNREACHABLE,
    DialError,
)
from tunneld.server.clientdial import ClientDials
from tunneld.server.credentials import Basic
from tunneld.server.gate import Visitor
from tunneld.server.verifier import UnauthorizedError
from tunneld.socks5 import (
    NO_ACCEPTABLE_METHOD,
    PASSWORD_RIGHT,
    PASSWORD_WRONG,
    VERSION,
    VERSION_4,
    Method,
    Reply,
    SocksError,
    parse_greeting,
    parse_login,
    parse_request,
)
from tunneld.transport.stream import TransportStream, say_goodbye

_REPLIES = {
    REFUSED: Reply.REFUSED,
    TIMEOUT: Reply.TTL_EXPIRED,
    AGENT_TIMEOUT: Reply.TTL_EXPIRED,
    UNKNOWN_NAME: Reply.HOST_UNREACHABLE,
    NAME_TIMEOUT: Reply.HOST_UNREACHABLE,
    UNREACHABLE: Reply.HOST_UNREACHABLE,
    PROHIBITED: Reply.NOT_ALLOWED,
    NO_AGENT: Reply.NETWORK_UNREACHABLE,
}
"""Of failed dials; any other is `Reply.FAILED`."""

_Message = TypeVar("_Message")


def is_socks(octets: bytes) -> bool:
    """Whether a client that begins with these speaks SOCKS, of whatever version."""
    return octets[:1] in (bytes([VERSION]), bytes([VERSION_4]))


class SocksNegotiation:
    """What a client says before it is connected; `run` it."""

    def __init__(self, stream: TransportStream, visitor: Visitor, octets: bytes) -> None:
        self._stream = stream
        self._visitor = visitor
        self._octets = octets
        """Those that came and are not used yet."""

    async def run(self) -> tuple[Caller, str]:
        """Who the client is, and what it wants to be connected to; what it said behind that is put
        back into the stream.

        Raises:
          SocksError: it cannot be served; it has been told, unless ``reply`` is still to be sent.
          EOFError: it ended amid that.
        """
        methods = await self._next(parse_greeting)
        caller = await self._authenticate(methods)
        authority = await self._next(parse_request)
        self._stream.unread(self._octets)
        return caller, authority

    async def _authenticate(self, methods: frozenset[int]) -> Caller:
        if not self._visitor.needs_secret and Method.NONE in methods:
            await self._stream.send_all(bytes([VERSION, Method.NONE]))
            return self._visitor.caller
        if Method.PASSWORD not in methods:
            raise SocksError("it offers no method that is good here", NO_ACCEPTABLE_METHOD)
        await self._stream.send_all(bytes([VERSION, Method.PASSWORD]))
        login = await self._next(parse_login)
        try:
            caller = await self._visitor.identify(Basic(login.name, login.password))
        except UnauthorizedError as exc:
            raise SocksError(str(exc), PASSWORD_WRONG) from exc
        await self._stream.send_all(PASSWORD_RIGHT)
        return caller

    async def _next(self, parse: Callable[[bytes], tuple[_Message, int] | None]) -> _Message:
        """The next message; reads what it takes."""
        while (found := parse(self._octets)) is None:
            more = await self._stream.receive_some()
            if not more:
                raise EOFError("the client ended amid its SOCKS request")
            self._octets += more
        message, size = found
        self._octets = self._octets[size:]
        return message


async def serve_socks(
    dials: ClientDials, stream: TransportStream, caller: Caller, authority: str
) -> None:
    """Connect a client as it has asked, and carry its connection to the end."""
    try:
        await dials.connect(stream, caller, authority, Reply.SUCCEEDED.encode(), entry="SOCKS5")
    except DialError as exc:
        reply = _REPLIES.get(exc.kind, Reply.FAILED)
        await say_goodbye(stream, reply.encode(f"dial.{exc.dial}.invalid"))
