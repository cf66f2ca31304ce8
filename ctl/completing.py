"""What may follow on a command line, as the daemon knows it: names of roles, agents and labs.

Somebody waits at a prompt: without a daemon that answers at once there are no names, and no word
about it.
"""

import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

import click

from ctl.app import App, rows_of
from ctl.client import Client
from ctl.messages import ControlError, Message

Complete = Callable[[click.Context, click.Parameter, str], list[str]]
"""What an option or argument takes as ``shell_complete``."""

PATIENCE = 0.3
"""Seconds for the daemon to answer."""


def roles(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Names of roles that have not been given yet."""
    given = ctx.params.get(param.name or "") or ()
    return _beginning(incomplete, _names(ctx, "role.list", "roles", "name"), given)


def servers(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Names of server roles."""
    rows = [row for row in _ask(ctx, "role.list", "roles") if row.get("kind") == "server"]
    return _beginning(incomplete, [str(row.get("name")) for row in rows])


def agents(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Ids of agents that are connected."""
    return _beginning(incomplete, _names(ctx, "agents", "agents", "id"))


def connections(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Ids of connections that have not been given yet."""
    given = ctx.params.get(param.name or "") or ()
    return _beginning(incomplete, _names(ctx, "conns", "conns", "id"), given)


def labs(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Names of labs."""
    return _beginning(incomplete, _names(ctx, "ns.list", "labs", "name"))


def namespaces(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Names of the labs' namespaces."""
    spaces = [row.get("namespaces") for row in _ask(ctx, "ns.list", "labs")]
    rows = [row for each in spaces if isinstance(each, list) for row in each]
    return _beginning(incomplete, [str(row.get("name")) for row in rows if isinstance(row, dict)])


def _names(ctx: click.Context, method: str, rows: str, key: str) -> list[str]:
    return [str(row[key]) for row in _ask(ctx, method, rows) if row.get(key)]


def _ask(ctx: click.Context, method: str, rows: str) -> list[Message]:
    """The rows of one answer of the daemon; none if that fails in any way."""
    app = App(control_option=ctx.find_root().params.get("control"))
    try:
        with _deadline(PATIENCE), Client.connect(app.control, PATIENCE) as client:
            return rows_of(client.request(method, timeout=PATIENCE), rows)
    except (ControlError, OSError, click.UsageError):
        return []


@contextmanager
def _deadline(seconds: float) -> Iterator[None]:
    """Raise TimeoutError in the block when its time is over, whatever it waits for."""

    def expired(_number: int, _frame: FrameType | None) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, expired)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _beginning(incomplete: str, names: Sequence[str], given: Sequence[str] = ()) -> list[str]:
    left = dict.fromkeys(name for name in names if name not in given)
    return [name for name in left if name.startswith(incomplete)]
