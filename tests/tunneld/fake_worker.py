"""A real worker process whose roles do as their ``listen`` says.

ready:1     becomes ready
raise:1     fails
die:1       ends the process at once, with last words on stderr
stay:1      becomes ready and does not drain
hang:1      becomes ready and blocks the whole process
"""

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import structlog
import trio
import trio.testing

from tests.tunneld.fakes import Script
from tunneld.config import EchoConfig, RoleConfig
from tunneld.factories import Factories
from tunneld.role import Host, Role, RoleError
from tunneld.worker import main

ROOT = Path(__file__).parents[2]
COMMAND = (
    sys.executable,
    "-c",
    f"import sys; sys.path[:0] = [{str(ROOT)!r}]; import tests.tunneld.fake_worker as f; f.run()",
)


def _raise() -> None:
    raise RoleError("told to raise")


def _die() -> None:
    os.write(2, b"told to die\n")
    os._exit(3)


def _log() -> None:
    structlog.get_logger(__name__).info("told to log", number=1)


async def _hang() -> None:
    await trio.testing.wait_all_tasks_blocked(0.1)
    time.sleep(1000)  # noqa: ASYNC251 - that is the point


def make(config: RoleConfig, host: Host) -> Role:
    assert isinstance(config, EchoConfig)
    todo = config.listen.partition(":")[0]
    actions: dict[str, Callable[[], None]] = {"raise": _raise, "die": _die}
    if todo == "hang":
        trio.lowlevel.spawn_system_task(_hang)
    script = Script(run=actions.get(todo, _log), busy=todo == "stay")
    return script.factory(config, host)


FACTORIES: Factories = {EchoConfig: make}


def run() -> None:
    main(factories=FACTORIES)
