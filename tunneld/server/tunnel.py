"""A native tunnel as the server sees it: a session to one agent, a stream for each connection."""

import time
from email.utils import formatdate
from http import HTTPStatus

import trio

from frames import LocalProtocolError, Role, once
from tunneld import agentinfo, rh2
from tunneld.agentinfo import AgentInfo, AgentInfoError
from tunneld.dialing import (
    BAD_ADDRESS,
    NO_AGENT,
    TUNNEL_LOST,
    DialError,
    join_authority,
    split_authority,
)
from tunneld.dialrecord import DialRecord, read_steps
from tunneld.identifiers import parse_foreign_identifiers
from tunneld.reactor import Reactor
from tunneld.server.claims import Claims
from tunneld.session import Session
from tunneld.streamend import StreamEnd
from tunneld.transport.tls import TlsTransport

_INFO_TIMEOUT = 10.0
"""Seconds an agent has to say who it is."""


_MAX_ADDRESS = 64
"""Characters of ``host:port`` with an address for a host."""


class AgentRejectedError(Exception):
    """The agent may not join; the text says why."""


class AlreadyConnectedError(AgentRejectedError):
    """The agent has a tunnel to this server already, and ends this one."""


class NativeTunnel:
    """One agent's live link. `identify` first; then `dial` until `session` is over.

    Args:
      server_count: how many servers there are, for the agent to connect to.
    """

    def __init__(
        self,
        reactor: Reactor,
        transport: TlsTransport,
        peer: str,
        keepalive: float,
        server_count: int,
    ) -> None:
        self.peer = peer
        self.since = time.time()
        self.info = AgentInfo(agent_id="")
        self.claims = Claims({})
        self.protocol = rh2.ALPN
        self.identity = ""
        self.conns = 0
        self.dials = 0
        self._server_count = server_count
        self.session = Session(
            reactor,
            transport,
            Role.CLIENT,
            settings=rh2.SETTINGS,
            limits=rh2.LIMITS,
            receive_window=rh2.RECEIVE_WINDOW,
            keepalive=keepalive,
            elastic=True,
        )

    @property
    def usable(self) -> bool:
        return self.session.usable

    @property
    def draining(self) -> bool:
        return self.session.draining

    @property
    def state(self) -> str:
        return "draining" if self.session.draining else "ready"

    @property
    def rtt(self) -> float | None:
        return self.session.pings.rtt

    async def answers(self) -> None:
        await self.session.pings.answered()

    def kill(self, reason: str) -> None:
        self.session.kill(reason)

    def drain(self) -> None:
        self.session.drain()

    async def identify(self, server_id: str, challenge: bytes = b"") -> None:
        """Ask the agent who it is.

        Args:
          challenge: for its token (`tunneld.tokenproof`); none is sent where it is empty.
        Raises:
          AgentRejectedError: no answer in time, or an unusable one.
        """
        try:
            self.info = AgentInfo.decode(await self._ask(server_id, challenge))
        except AgentInfoError as exc:
            raise AgentRejectedError(str(exc)) from exc
        self.claims = Claims(parse_foreign_identifiers(self.info.identifiers))

    async def _ask(self, server_id: str, challenge: bytes) -> bytes:
        """The body of the agent's answer."""
        head = [
            (b":method", b"GET"),
            (b":scheme", b"https"),
            (b":authority", b"agent"),
            (b":path", agentinfo.PATH),
            (agentinfo.SERVER_ID, server_id.encode()),
            (agentinfo.SERVER_COUNT, b"%d" % self._server_count),
            (b"date", formatdate(usegmt=True).encode()),
        ]
        if challenge:
            head.append((agentinfo.CHALLENGE, challenge.hex().encode()))
        try:
            end = self.session.open(head, end_stream=True)
        except LocalProtocolError as exc:
            raise AgentRejectedError(f"it cannot be asked who it is: {exc}") from exc
        body = None
        try:
            with trio.move_on_after(_INFO_TIMEOUT):
                body = await end.read_body(agentinfo.MAX_SIZE)
        finally:
            end.abort()  # unless it has ended by itself
        if end.lost is not None:
            raise AgentRejectedError(end.lost)
        if end.response is None or body is None:
            limit = f"{agentinfo.MAX_SIZE} octets in {_INFO_TIMEOUT:.0f} s"
            raise AgentRejectedError(f"no answer to who it is, of at most {limit}")
        if end.response.status == HTTPStatus.CONFLICT:
            raise AlreadyConnectedError("it is connected already")
        if end.response.status != 200:
            raise AgentRejectedError(f"asked who it is, it answers {end.response.status}")
        return body

    def leave(self) -> None:
        head = [
            (b":method", b"GET"),
            (b":scheme", b"https"),
            (b":authority", b"agent"),
            (b":path", agentinfo.LEAVING_PATH),
        ]
        try:
            self.session.open(head, end_stream=True).abort()  # it is told, the answer tells nothing
        except LocalProtocolError:
            pass  # it is over, or about to be: the agent knows that already

    @property
    def can_leave(self) -> bool:
        return agentinfo.LEAVE in self.info.capabilities

    @property
    def checks_addresses(self) -> bool:
        return agentinfo.RULES in self.info.capabilities

    async def dial(
        self, address: str, protocol: str, timeout: float, record: DialRecord, rules: str
    ) -> StreamEnd:
        """As `tunneld.server.registry.Tunnel`; a CONNECT says no protocol, so it must be tcp."""
        if protocol != "tcp":
            text = f"dial: unknown network {protocol}: agent {self.info.agent_id} knows tcp"
            raise DialError(BAD_ADDRESS, text)
        authority = join_authority(*split_authority(address))
        head = [
            (b":method", b"CONNECT"),
            (b":authority", authority.encode()),
            once(rh2.DIAL_ID, record.id.encode()),
        ]
        if rules:
            head.append((rh2.RULES, rules.encode()))
        if record.wanted:
            head.append((rh2.TRACE, b"1"))
        try:
            end = self.session.open(head)
        except LocalProtocolError as exc:
            raise DialError(NO_AGENT, f"agent {self.info.agent_id} takes no dials: {exc}") from exc
        try:
            with trio.fail_after(timeout):
                await end.arrived.wait()
        finally:
            if end.response is None:
                end.abort()
        return self._judge(end, record)

    def _judge(self, end: StreamEnd, record: DialRecord) -> StreamEnd:
        response = end.response
        if response is None:
            text = f"tunnel of agent {self.info.agent_id} lost amid the dial: {end.lost}"
            raise DialError(TUNNEL_LOST, text)
        steps = response.headers.get("tunneld-trace")
        if steps is not None:
            record.agent_steps = read_steps(steps)
        if 200 <= response.status < 300:
            record.address = response.headers.get("tunneld-address", "")[:_MAX_ADDRESS]
            return end
        end.abort()
        raise DialError.from_proxy_status(response.status, response.headers.get("proxy-status", ""))
