"""A whole tunnel in one process: a server, an agent, endpoints; real sockets on loopback."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import trio

from tests.tunneld.policies import OPEN_AGENT, OPEN_SERVER
from tunneld.agent.nativelink import NativeLink
from tunneld.agent.role import AgentRole
from tunneld.config import AgentConfig, Frontend, ServerConfig, TunnelListener
from tunneld.reactor import Reactor
from tunneld.role import Host, Role, RoleState
from tunneld.server.role import ServerRole
from tunneld.server.tunnel import NativeTunnel
from tunneld.session import window_budget


@dataclass
class World:
    """See `open_world`."""

    pki: Path
    reactor: Reactor
    nursery: trio.Nursery
    server_config: ServerConfig
    agent_config: AgentConfig
    server: ServerRole = field(init=False)
    agent: AgentRole = field(init=False)
    server_host: Host = field(init=False)
    agent_host: Host = field(init=False)
    server_scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    agent_scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    server_done: trio.Event = field(default_factory=trio.Event)
    agent_done: trio.Event = field(default_factory=trio.Event)
    addresses: list[str] = field(default_factory=list)
    states: list[tuple[str, RoleState, str]] = field(default_factory=list)
    changed: trio.Condition = field(default_factory=trio.Condition)
    budget_before: int = field(default_factory=lambda: window_budget.left)

    @property
    def frontend(self) -> tuple[str, int]:
        """Of the TLS frontend."""
        host, port = self.addresses[0].rsplit(":", 1)
        return host, int(port)

    @property
    def tunnel_address(self) -> str:
        """Where agents connect."""
        return self.addresses[-1]

    @property
    def unix_frontend(self) -> str:
        """Path of the plain frontend."""
        return self.addresses[1].removeprefix("unix:")

    def host(self, name: str) -> Host:
        def set_state(state: RoleState, reason: str) -> None:
            self.states.append((name, state, reason))

        return Host(name, self.reactor, self.pki, set_state)

    async def start_server(self) -> None:
        self.server_host = self.host("server")
        self.server = ServerRole(self.server_config, self.server_host)
        self.server_scope, self.server_done = trio.CancelScope(), trio.Event()
        self.addresses = await self.nursery.start(
            self._run, self.server, self.server_scope, self.server_done
        )

    async def start_agent(self) -> None:
        config = msgspec.structs.replace(self.agent_config, server=self.tunnel_address)
        self.agent_host = self.host("agent")
        self.agent = AgentRole(config, self.agent_host)
        self.agent_scope, self.agent_done = trio.CancelScope(), trio.Event()
        await self.nursery.start(self._run, self.agent, self.agent_scope, self.agent_done)

    @staticmethod
    async def _run(
        role: Role,
        scope: trio.CancelScope,
        done: trio.Event,
        task_status: trio.TaskStatus[list[str]],
    ) -> None:
        with scope:
            await role.run(task_status)
        done.set()

    async def until(self, true: Callable[[], object]) -> None:
        """Wait for what other tasks bring about, 10 seconds at most."""
        with trio.fail_after(10):
            while not true():  # noqa: ASYNC110 - nothing tells about things as various as these
                await trio.sleep(0.002)

    async def connected(self) -> None:
        """Wait for the agent."""
        await self.until(self.server.agents)

    async def at_rest(self) -> None:
        """Wait until nothing is left of any connection but the tunnel itself."""
        await self.until(lambda: self.leftovers() == [])

    def leftovers(self) -> list[object]:
        """What connections have left behind."""
        found: list[object] = [*self.server.conns(), *self.agent.conns()]
        tunnels = self.server.agents()
        found += [tunnel for tunnel in tunnels if tunnel["conns"]]
        found += [("descriptors", self.reactor.served)] * (self.reactor.served != 2 * len(tunnels))
        found += [("budget", window_budget.left)] * (window_budget.left != self.budget_before)
        for session in self.sessions():
            found += list(session.ends.values()) + list(session.connection.streams.values())
        return found

    def sessions(self) -> list[Any]:
        """Both ends of the tunnels there are."""
        tunnels = self.server._registry.tunnels
        of_agent = [link.session for link in self.agent.links if isinstance(link, NativeLink)]
        of_server = [each.session for each in tunnels if isinstance(each, NativeTunnel)]
        return of_server + of_agent

    async def endpoint(self, serve: Callable[[trio.SocketStream], Awaitable[None]]) -> int:
        """Serve TCP by ``serve``, which need not close; returns the port."""

        async def handler(stream: trio.SocketStream) -> None:
            try:
                await serve(stream)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                pass
            finally:
                await trio.aclose_forcefully(stream)

        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        self.nursery.start_soon(trio.serve_listeners, handler, listeners)
        port: int = listeners[0].socket.getsockname()[1]
        return port


@asynccontextmanager
async def open_world(
    pki: Path,
    tmp_path: Path,
    *,
    agent: bool = True,
    server_options: dict[str, Any] | None = None,
    agent_options: dict[str, Any] | None = None,
) -> AsyncIterator[World]:
    """A server with a TLS and a UNIX frontend, and an agent that is connected to it."""
    reactor = Reactor()
    server_config = ServerConfig(
        policy=OPEN_SERVER,
        name="server",
        frontends=(
            Frontend(
                listen="127.0.0.1:0",
                cert="frontend/server.crt",
                key="frontend/server.key",
                client_ca="frontend/ca.crt",
            ),
            Frontend(listen=f"unix:{tmp_path}/front.sock"),
        ),
        tunnel=TunnelListener(
            listen="127.0.0.1:0",
            cert="agent/server.crt",
            key="agent/server.key",
            client_ca="agent/ca.crt",
        ),
    )
    server_config = msgspec.structs.replace(server_config, **(server_options or {}))
    defaults: dict[str, Any] = {
        "policy": OPEN_AGENT,
        "cert": "agent/agent.crt",
        "key": "agent/agent.key",
        "ca": "agent/ca.crt",
        "backoff_min": 0.01,
        "backoff_max": 0.05,
    }
    agent_config = AgentConfig(name="agent", server="-", **(defaults | (agent_options or {})))
    async with trio.open_nursery() as nursery:
        reactor_scope = await nursery.start(_run_reactor, reactor)
        async with trio.open_nursery() as roles:
            world = World(pki, reactor, roles, server_config, agent_config)
            await world.start_server()
            if agent:
                await world.start_agent()
                await world.connected()
            yield world
            roles.cancel_scope.cancel()
        assert reactor.served == 0
        reactor_scope.cancel()
    reactor.close()


async def _run_reactor(reactor: Reactor, task_status: trio.TaskStatus[trio.CancelScope]) -> None:
    with trio.CancelScope() as scope:
        task_status.started(scope)
        await reactor.run()
