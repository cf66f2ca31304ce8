"""Worlds for the endpoint tests: a host to run roles in, and running roles."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import TypeAlias

import pytest
import trio

from ctl.address import parse_address
from tunneld.reactor import Reactor
from tunneld.role import Host, Role, RoleState

Running: TypeAlias = Callable[[Role], AbstractAsyncContextManager[tuple[str, int]]]


@pytest.fixture
def host(tmp_path: Path) -> Host:
    def ignore(state: RoleState, reason: str) -> None:
        pass

    return Host("endpoint", Reactor(), tmp_path, ignore)


@pytest.fixture
def running() -> Running:
    """Runs a role on a port that the kernel chose, and cancels it in the end."""

    @asynccontextmanager
    async def run(role: Role) -> AsyncIterator[tuple[str, int]]:
        async with trio.open_nursery() as nursery:
            addresses = await nursery.start(role.run)
            yield parse_address(addresses[0])
            nursery.cancel_scope.cancel()

    return run
