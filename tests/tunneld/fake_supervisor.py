"""A process with one workplace, whose worker runs one fake role; to be killed.

python … TODO STATE    prints the worker's pid once the role is ready
"""

import sys
from functools import partial
from pathlib import Path

import trio

from tests.tunneld.fake_worker import COMMAND
from tunneld.config import EchoConfig
from tunneld.role import RoleState
from tunneld.rolestatus import RoleStatus
from tunneld.workplace import Premises, Workplace


def _told(ready: trio.Event, _: str, status: RoleStatus) -> None:
    if status.state is RoleState.READY:
        ready.set()


async def _supervise(todo: str, state_dir: Path) -> None:
    ready = trio.Event()
    premises = Premises(state_dir, partial(_told, ready), lambda role, line: None, COMMAND)
    place = Workplace("here", list, premises)
    place.start(EchoConfig(name="a", listen=f"{todo}:1"))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(place.run)
        await ready.wait()
        print(place.pid, flush=True)


def run() -> None:
    trio.run(_supervise, sys.argv[1], Path(sys.argv[2]))
