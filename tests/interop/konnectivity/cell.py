"""One cell of the matrix: a server, an agent, and a kind of client."""

from dataclasses import dataclass, field
from enum import StrEnum

from tests.interop.konnectivity.build import go_programs
from tests.interop.konnectivity.clients import Bridge, Client, Connect
from tests.interop.konnectivity.programs import Agent, Maker, Mode, Server, World

QUICK = ("--sync-interval=200ms", "--sync-interval-cap=1s", "--probe-interval=200ms")
"""For an agent: the same loops as by default, but sooner, so that a test run does not wait."""


class Kind(StrEnum):
    """Of a client."""

    SINGLE_USE = "grpc"
    REUSABLE = "grpc-reusable"
    CONNECT_TLS = "connect-tls"
    CONNECT_UNIX = "connect-unix"

    @property
    def mode(self) -> Mode:
        return Mode.GRPC if self in (Kind.SINGLE_USE, Kind.REUSABLE) else Mode.CONNECT


@dataclass
class Cell:
    world: World
    server: Server
    agent: Agent
    client: Client
    kind: Kind
    more_agents: list[Agent] = field(default_factory=list)

    async def start(self) -> None:
        self.server.start()
        await self.server.started()
        self.agent.start()
        await self.server.ready()
        await self.agent.ready()

    def another_agent(self, name: str, *, agent_id: str = "", flags: tuple[str, ...] = ()) -> Agent:
        """Not started yet; it ends with the cell."""
        agent = Agent(
            self.world,
            self.agent.maker,
            self.server.agent_port,
            agent_id=agent_id or name,
            name=name,
            flags=flags,
        )
        self.more_agents.append(agent)
        return agent

    def stop(self) -> None:
        self.client.close()
        for agent in (self.agent, *self.more_agents):
            agent.kill()
        self.server.kill()


def make_cell(world: World, server: Maker, agent: Maker, kind: Kind) -> Cell:
    """A cell of which only the client's process runs, if it has one."""
    mode = kind.mode if server is Maker.GO else Mode.ANY
    the_server = Server(world, server, mode, uds=kind is Kind.CONNECT_UNIX)
    the_agent = Agent(world, agent, the_server.agent_port)
    return Cell(world, the_server, the_agent, make_client(world, the_server, kind), kind)


def make_client(world: World, server: Server, kind: Kind, name: str = "client") -> Client:
    if kind.mode is Mode.CONNECT:
        return Connect(world.pki, server.place)
    directory = world.directory / name
    return Bridge(
        go_programs().bridge, directory, world.pki, server.place, reusable=kind is Kind.REUSABLE
    )
