"""The daemon: whether it answers, and what state its roles are in."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from ctl.messages import ControlError
from tunneld import __version__
from tunneld.ask import ask
from tunneld.config import RoleConfig, parse_roles
from tunneld.configfile import ConfigError, load_config
from tunneld.doctor.finding import Finding, Verdict, failed, passed, warned
from tunneld.role import RoleState


@dataclass(frozen=True, slots=True)
class Daemon:
    """One that runs."""

    pid: int
    version: str
    state: Path
    rows: dict[str, dict[str, Any]]
    """Roles by name, as the control protocol has them."""
    roles: tuple[RoleConfig, ...]
    """What they run with."""
    file: Path | None = None
    """Where the configuration is read from."""
    not_reloaded: tuple[str, ...] = ()
    """Why what is on disk is not in use, a line each."""


def find_daemon(control: Path) -> Daemon:
    """Ask the daemon.

    Raises:
      ControlError: there is none, or it does not answer as one of ours.
    """
    status, pid = ask(control, "status")
    config, _ = ask(control, "role.config")
    try:
        rows = {str(row["name"]): row for row in status["roles"]}
        roles = parse_roles(config["roles"])
        file = Path(config["file"]) if config.get("file") else None
        stale = tuple(map(str, status.get("not_reloaded", ())))
        version, state = str(status["version"]), Path(status["state"])
        return Daemon(pid, version, state, rows, roles, file, stale)
    except (KeyError, TypeError, msgspec.ValidationError) as exc:
        raise ControlError("internal", f"the daemon at {control} answers oddly: {exc}") from exc


def missing(error: ControlError, *, has_config: bool) -> Finding:
    """For a daemon that does not answer: no failure where a configuration shall be looked at."""
    text = f"{error.message}{'; what follows is about the file alone' if has_config else ''}"
    is_wrong = error.code != "no_daemon" or not has_config
    return Finding("daemon", Verdict.FAIL if is_wrong else Verdict.WARN, text, error.hint, "daemon")


def check_daemon(daemon: Daemon) -> Iterator[Finding]:
    """That it answers, and is of our version."""
    text = f"pid {daemon.pid}, version {daemon.version}, {len(daemon.rows)} roles"
    if daemon.version == __version__:
        yield passed("daemon", text)
    else:
        advice = "start it again: tunneld stop, tunneld start"
        yield warned("daemon", f"{text}; this program is of version {__version__}", advice)


def check_file(daemon: Daemon, path: Path) -> Iterator[Finding]:
    """Whether the daemon's configuration file could be read anew, and is what the roles run with;
    those of labs have none."""
    try:
        in_file = load_config(path).role
    except ConfigError as exc:
        for each in exc.problems:
            advice = "correct it, or the next start fails: tunneld check-config"
            yield failed("configuration", f"{path}: {each}", advice)
        return
    for problem in daemon.not_reloaded:
        text = " ".join(problem.split())
        yield warned("configuration", text, "correct it, then: tunnelctl reload")
    of_file = [role for role in daemon.roles if daemon.rows[role.name].get("lab") is None]
    names = _different(of_file, in_file)
    if names:
        text = f"{path} has another configuration than is in use, of {', '.join(names)}"
        yield warned("configuration", text, "take it into use: tunnelctl reload")
    else:
        yield passed("configuration", f"{path}: ok, {len(in_file)} roles, in use")


def _different(these: Sequence[RoleConfig], those: Sequence[RoleConfig]) -> list[str]:
    """Names of the roles that only one side has, or that are not the same on both."""
    left, right = ({role.name: role for role in side} for side in (these, those))
    return sorted(name for name in {*left, *right} if left.get(name) != right.get(name))


def check_role_state(row: dict[str, Any]) -> Iterator[Finding]:
    """The state of one role."""
    name, state, reason = (str(row.get(key)) for key in ("name", "state", "reason"))
    text = f"{state}{f': {reason}' if reason else ''}"
    logs = f"see: tunnelctl role logs {name}"
    match state:
        case RoleState.READY:
            yield passed("state", text)
        case RoleState.STOPPED:
            yield warned("state", text, f"start it: tunnelctl role start {name}")
        case RoleState.STARTING | RoleState.DRAINING:
            yield warned("state", text, f"look again soon; {logs}")
        case _:
            yield failed("state", text, logs)


def states_of(daemon: Daemon | None, roles: Sequence[RoleConfig]) -> Iterator[dict[str, Any]]:
    """The rows of those roles that the daemon has."""
    if daemon is not None:
        yield from (daemon.rows[role.name] for role in roles if role.name in daemon.rows)
