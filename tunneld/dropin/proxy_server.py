"""The program ``proxy-server``: konnectivity's server and its flags, by our server role."""

import os
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
import trio

from tunneld.dropin.duration import seconds
from tunneld.dropin.followfiles import follow_files
from tunneld.dropin.foreground import Signals, cancel_at, open_host, run_role, serve_operators
from tunneld.dropin.kubernetes import open_kubernetes
from tunneld.dropin.program import FAILURE, Program, StartError, run
from tunneld.dropin.server_config import server_config
from tunneld.dropin.server_flags import ServerOptions, check

if TYPE_CHECKING:
    from tunneld.kube.client import KubeClient
    from tunneld.server.role import ServerRole

log = structlog.get_logger(__name__)

_LOOPBACK = "127.0.0.1"


async def serve(options: ServerOptions) -> int:
    """Run until told to stop.

    The first signal ends listening, fails ``/readyz`` and gives up the lease; connections may go on
    for the graceful shutdown's time. The second signal ends everything.

    Returns:
      0 after one signal, 1 after two.
    Raises:
      StartError: it cannot run.
    """
    from tunneld.server.role import ServerRole

    config = server_config(options)
    _clear_socket_path(options)
    signals = Signals()
    timeout = seconds(options.graceful_shutdown_timeout)
    async with AsyncExitStack() as stack:
        kubernetes = await _open_kubernetes(options, stack)
        host = await stack.enter_async_context(open_host(config.name))
        role = ServerRole(config, host)
        if kubernetes is not None and options.authenticates:
            _check_tokens(role, kubernetes, options)
        async with trio.open_nursery() as around:
            await around.start(signals.run)
            around.start_soon(cancel_at, signals.second, around.cancel_scope)
            async with trio.open_nursery() as nursery:
                addresses = await nursery.start(
                    run_role, role, host, signals.first, timeout, "failed to run the server:"
                )
                around.start_soon(follow_files, role, config)
                log.info("server started", addresses=", ".join(addresses), id=options.server_id)
                await _serve_operators(role, options, around)
                if kubernetes is not None and options.enable_lease_controller:
                    around.start_soon(_keep_lease, role, kubernetes, options, signals.first)
            around.cancel_scope.cancel()
    log.info("server stopped")
    return FAILURE if signals.second.is_set() else 0


def _clear_socket_path(options: ServerOptions) -> None:
    """Remove what exists in the place of the UNIX socket, or refuse to start because of it."""
    path = Path(options.uds_name)
    if not options.uds_name or not (path.exists() or path.is_symlink()):
        return
    if not options.delete_existing_uds_file:
        raise StartError(
            f"failed to run the frontend server: {path} exists; remove it, or have it removed by "
            "--delete-existing-uds-file"
        )
    try:
        path.unlink()
    except OSError as exc:
        text = f"failed to run the frontend server: cannot remove {path}: {exc.strerror}"
        raise StartError(text) from exc


async def _open_kubernetes(options: ServerOptions, stack: AsyncExitStack) -> "KubeClient | None":
    if not (options.authenticates or options.enable_lease_controller):
        return None
    return await stack.enter_async_context(
        open_kubernetes(
            options.kubeconfig, qps=options.kubeconfig_qps, burst=options.kubeconfig_burst
        )
    )


def _check_tokens(role: "ServerRole", kubernetes: "KubeClient", options: ServerOptions) -> None:
    """Let in agents of one service account alone."""
    from tunneld.kube import TokenRefusedError, TokenReviewer
    from tunneld.server.tunnel import AgentRejectedError

    reviewer = TokenReviewer(
        kubernetes,
        options.authentication_audience,
        options.agent_namespace,
        options.agent_service_account,
    )

    async def authenticate(authorization: Sequence[str]) -> None:
        try:
            await reviewer.check(authorization)
        except TokenRefusedError as exc:
            raise AgentRejectedError(str(exc)) from exc

    role.agent_server.authenticate = authenticate


async def _serve_operators(
    role: "ServerRole", options: ServerOptions, nursery: trio.Nursery
) -> None:
    from tunneld.adminroutes import server_admin, server_health

    admin = server_admin(role.telemetry, profiling=options.enable_profiling)
    address = options.admin_bind_address or _LOOPBACK
    await serve_operators("admin", address, options.admin_port, admin, nursery)
    health = server_health(lambda: role.ready, role.telemetry)
    address = options.health_bind_address
    await serve_operators("health", address, options.health_port, health, nursery)


async def _keep_lease(
    role: "ServerRole", kubernetes: "KubeClient", options: ServerOptions, stop: trio.Event
) -> None:
    """Hold the server's lease until ``stop``: no agent shall look for a server that goes."""
    from tunneld.kube import LeaseController, parse_labels

    controller = LeaseController(
        kubernetes,
        options.server_id,
        options.lease_namespace,
        parse_labels(options.lease_label),
        role.telemetry,
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(controller.run)
        await stop.wait()
        nursery.cancel_scope.cancel()


PROGRAM = Program(
    name="proxy-server",
    about="A reverse tunnel's public side, with the flags of konnectivity's proxy-server: takes "
    "connections of\nclients, and has agents make them in their networks.",
    options=ServerOptions,
    invalid="failed to validate server options with",
    check=check,
    serve=serve,
)


def main() -> None:
    """The console script."""
    sys.exit(run(PROGRAM, sys.argv[1:], os.environ))


if __name__ == "__main__":
    main()
