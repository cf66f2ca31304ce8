"""The program ``proxy-agent``: konnectivity's agent and its flags, by our agent role."""

import math
import os
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import structlog
import trio

from tunneld.dropin.agent_config import agent_config
from tunneld.dropin.agent_flags import AgentOptions, check
from tunneld.dropin.followfiles import follow_files
from tunneld.dropin.foreground import Signals, cancel_at, open_host, run_role, serve_operators
from tunneld.dropin.kubernetes import open_kubernetes
from tunneld.dropin.program import Program, run

if TYPE_CHECKING:
    from tunneld.agent.role import AgentRole

log = structlog.get_logger(__name__)


async def serve(options: AgentOptions) -> int:
    """Run until told to stop.

    The first signal has servers prefer other agents, while this one goes on; the second ends it.

    Returns:
      0.
    Raises:
      StartError: it cannot run.
    """
    from tunneld.agent.role import AgentRole

    config = agent_config(options)
    signals = Signals()
    async with AsyncExitStack() as stack:
        host = await stack.enter_async_context(open_host(config.name))
        role = AgentRole(config, host)
        role.outlasts_drain = True
        async with trio.open_nursery() as around:
            await around.start(signals.run)
            around.start_soon(cancel_at, signals.second, around.cancel_scope)
            if options.count_server_leases:
                await _count_leases(role, options, stack, around)
            await _serve_operators(role, options, around)
            around.start_soon(follow_files, role, config)
            log.info("agent started", server=config.server, id=config.agent_id)
            await run_role(
                role, host, signals.first, math.inf, "failed to run proxy connection with"
            )
            around.cancel_scope.cancel()
    log.info("agent stopped")
    return 0


async def _count_leases(
    role: "AgentRole", options: AgentOptions, stack: AsyncExitStack, nursery: trio.Nursery
) -> None:
    """Have servers counted by their leases; returns when they have been, or could not be."""
    from tunneld.kube import LeaseCounter

    kubernetes = await stack.enter_async_context(open_kubernetes(options.kubeconfig))
    counter = LeaseCounter(
        kubernetes, options.lease_namespace, options.lease_label_selector, role.telemetry
    )
    await nursery.start(counter.run)
    role.server_count_source = _source(role, lambda: counter.count, options.server_count_source)


def _source(role: "AgentRole", leases: Callable[[], int], kind: str) -> Callable[[], int]:
    """The number of servers: of the leases alone, or what a server says if that is more."""
    if kind != "max":
        return leases
    return lambda: max([leases(), *(link.server_count for link in role.links)])


async def _serve_operators(role: "AgentRole", options: AgentOptions, nursery: trio.Nursery) -> None:
    from tunneld.adminroutes import agent_admin, agent_health

    health = agent_health(lambda: role.connected > 0, role.telemetry)
    address, port = options.health_server_host, options.health_server_port
    await serve_operators("health", address, port, health, nursery)
    admin = agent_admin(port, profiling=options.enable_profiling)
    address, port = options.admin_bind_address, options.admin_server_port
    await serve_operators("admin", address, port, admin, nursery)


PROGRAM = Program(
    name="proxy-agent",
    about="A reverse tunnel's private side, with the flags of konnectivity's proxy-agent: connects "
    "to servers,\nand makes connections in its network for them.",
    options=AgentOptions,
    invalid="failed to validate agent options with",
    check=check,
    serve=serve,
)


def main() -> None:
    """The console script."""
    sys.exit(run(PROGRAM, sys.argv[1:], os.environ))


if __name__ == "__main__":
    main()
