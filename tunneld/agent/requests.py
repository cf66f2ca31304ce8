"""What a server may ask of an agent: who it is, and to connect to endpoints."""

from collections.abc import Callable

import structlog
import trio

from frames import Headers
from tunneld import agentinfo
from tunneld.agent.connect import connect
from tunneld.agentinfo import AgentInfo
from tunneld.caller import SERVER
from tunneld.conns import Conn, Conns
from tunneld.dialing import TIMEOUT, DialError, split_authority
from tunneld.reactor import Reactor
from tunneld.relay import Relay, RelayError
from tunneld.socketend import SocketEnd
from tunneld.streamend import StreamEnd
from tunneld.telemetry import (
    DIAL_TIMEOUT,
    DIAL_UNKNOWN,
    FROM_AGENT,
    TO_AGENT,
    AgentTelemetry,
)
from tunneld.transport.plain import PlainTransport

log = structlog.get_logger(__name__)


class Requests:
    """Serves the requests of all native sessions of an agent.

    Args:
      timeout: seconds for connecting to an endpoint, name resolution included.
    """

    def __init__(
        self,
        reactor: Reactor,
        agent_id: str,
        conns: Conns,
        telemetry: AgentTelemetry,
        timeout: float,
    ) -> None:
        self._reactor = reactor
        self._agent_id = agent_id
        self._conns = conns
        self._telemetry = telemetry
        self._timeout = timeout

    def handler(
        self, dials: trio.Nursery, greeted: Callable[[Headers], AgentInfo | None]
    ) -> Callable[[StreamEnd, Headers], None]:
        """For one session.

        Args:
          dials: where its connections run; they may outlast the session by a moment, while an
            endpoint takes the last octets.
          greeted: called with the headers of the server's question who we are; returns the
            answer, None if the session is not wanted.
        """

        def on_request(end: StreamEnd, headers: Headers) -> None:
            fields = dict(headers)
            method = fields[b":method"]
            if method == b"CONNECT" and b":protocol" not in fields:
                dials.start_soon(self._dial, end, fields[b":authority"].decode("latin-1"))
            elif method == b"GET" and fields[b":path"] == agentinfo.PATH:
                info = greeted(headers)
                if info is not None:
                    end.reply(200, info.encode().decode())
                else:
                    end.reply(409, "this agent is connected to that server already\n")
            else:
                end.reply(404, "an agent answers CONNECT, and who it is\n")

        return on_request

    async def _dial(self, end: StreamEnd, authority: str) -> None:
        """Connect, answer, and carry the connection until it ends."""
        try:
            with self._conns.listed(SERVER, authority, self._agent_id) as conn:
                await self._carry(end, conn)
        except DialError as exc:
            reason = DIAL_TIMEOUT if exc.kind is TIMEOUT else DIAL_UNKNOWN
            self._telemetry.endpoint_dial_failure_total[reason] += 1
            log.info("dial failed", destination=authority, error=str(exc))
            value = exc.proxy_status("tunneld-agent").encode("latin-1", "replace")
            end.reply(exc.kind.status, str(exc), [(b"proxy-status", value)])
        except RelayError as exc:
            log.debug("connection broken", destination=authority, error=str(exc))
        except Exception:  # a bug: it ends this connection alone
            log.exception("dial failed", destination=authority)
            end.abort()

    async def _carry(self, end: StreamEnd, conn: Conn) -> None:
        with trio.CancelScope() as lost:
            end.on_lost = lost.cancel
            if end.lost is not None:
                return
            begun = trio.current_time()
            sock = await connect(*split_authority(conn.destination), self._timeout)
            self._telemetry.dial_duration_seconds.observe(trio.current_time() - begun)
            end.on_lost = None
            endpoint = SocketEnd(self._reactor, PlainTransport(sock), "endpoint")
            if not end.respond([(b":status", b"200")]):
                endpoint.abort()
                return
            conn.state = "open"
            conn.link = end.session.pings
            conn.octets = lambda: (endpoint.written, endpoint.read)
            self._telemetry.open_endpoint_connections += 1
            try:
                conn.relay = relay = Relay(endpoint, end)
                await relay.run()
            finally:
                self._telemetry.open_endpoint_connections -= 1
                self._telemetry.tunneld_carried_bytes_total[TO_AGENT] += endpoint.written
                self._telemetry.tunneld_carried_bytes_total[FROM_AGENT] += endpoint.read
