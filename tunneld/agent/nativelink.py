"""A tunnel to a server of ours: reversed HTTP/2, the server opens the streams."""

import trio

from frames import Headers, Role
from tunneld import agentinfo, rh2
from tunneld.agent.link import Holder
from tunneld.agent.requests import Requests
from tunneld.agentinfo import AgentInfo
from tunneld.reactor import Reactor
from tunneld.session import Session
from tunneld.transport.base import Transport
from tunneld.transport.tls import TlsTransport


class NativeLink:
    """See `tunneld.agent.link.Link`.

    Args:
      info: our answer to who we are.
      dials: where its connections run; they may outlast it by a moment, while an endpoint takes
        the last octets.
      keepalive: seconds; see `Session`.
    """

    def __init__(
        self,
        reactor: Reactor,
        transport: TlsTransport,
        info: AgentInfo,
        requests: Requests,
        dials: trio.Nursery,
        keepalive: float,
    ) -> None:
        self.transport: Transport = transport
        self.server_id = ""
        self.server_count = 1
        self.session = Session(
            reactor,
            transport,
            Role.SERVER,
            settings=rh2.SETTINGS,
            limits=rh2.LIMITS,
            receive_window=rh2.RECEIVE_WINDOW,
            keepalive=keepalive,
            elastic=True,
            on_request=requests.handler(dials, self._greeted, self._leaving),
            on_draining=self._leaving,
        )
        self._info = info
        self._holder: Holder
        self._wanted: bool | None = None

    async def run(self, holder: Holder) -> None:
        self._holder = holder
        await self.session.run()

    def drain(self) -> None:
        """GOAWAY: the server opens no more streams, and the session ends with the last."""
        self.session.drain()

    def _leaving(self) -> None:
        self._holder.leaving()

    def _greeted(self, headers: Headers) -> AgentInfo | None:
        """The server asks who we are: it takes us for its agent, and says who it is."""
        fields = dict(headers)
        if self._wanted is None:
            self.server_id = fields.get(agentinfo.SERVER_ID, b"").decode("latin-1")
            count = fields.get(agentinfo.SERVER_COUNT, b"")
            self.server_count = max(1, int(count)) if _is_count(count) else 1
            self._wanted = self._holder.offer()
            if not self._wanted:
                self.session.drain()
        if not self._wanted:
            return None
        challenge = fields.get(agentinfo.CHALLENGE)
        return self._info if challenge is None else self._info.answering(challenge)


def _is_count(text: bytes) -> bool:
    return text.isdigit() and len(text) < 10
