"""What is looked at, in which order: the host, the daemon, each of its roles."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ctl.messages import ControlError
from tunneld.config import AdminConfig, Config, RoleConfig
from tunneld.configfile import ConfigError, load_config
from tunneld.doctor.clock import check_clock
from tunneld.doctor.daemon import (
    Daemon,
    check_daemon,
    check_file,
    check_role_state,
    find_daemon,
    missing,
    states_of,
)
from tunneld.doctor.descriptors import check_descriptors
from tunneld.doctor.finding import Finding, Verdict, passed
from tunneld.doctor.health import check_health
from tunneld.doctor.inside import inside_checks
from tunneld.doctor.kernel import check_kernel
from tunneld.doctor.listening import check_free
from tunneld.doctor.places import check_socket, check_state, owner_of
from tunneld.doctor.roles import role_checks
from tunneld.doctor.running import Check, run_checks
from tunneld.places import LABS


@dataclass(frozen=True, slots=True)
class Request:
    """What to look at."""

    control: Path
    state: Path
    config: Path | None = None
    """In place of what the daemon runs with."""
    health: tuple[str, ...] = ()
    """Addresses of health ports."""


def examine(request: Request) -> Iterator[Finding]:
    """All findings, as they come."""
    daemon, error = _find(request.control)
    config, problems = _read(request.config, daemon)
    roles = daemon.roles if daemon is not None and request.config is None else config.role
    yield from problems
    if error is not None:
        yield missing(error, has_config=request.config is not None)
    checks = [*_host_checks(request, daemon), *_process_checks(daemon, roles)]
    if config.admin is not None:
        checks.append(_admin_check(config.admin, daemon))
    for role in roles:
        row = daemon.rows.get(role.name) if daemon else None
        if role.namespace is not None:
            state = daemon.state if daemon else request.state
            checks += inside_checks(state / LABS, role, row)
        else:
            checks += role_checks(role, row)
    yield from run_checks(checks)


def _read(path: Path | None, daemon: Daemon | None) -> tuple[Config, list[Finding]]:
    """The file asked for and what is to be said of it; or, silently, that of the daemon."""
    chosen = path or (daemon.file if daemon else None)
    if chosen is None:
        return Config(), []
    try:
        config = load_config(chosen)
    except ConfigError as exc:
        advice = "correct it; tunneld check-config says when it is right"
        findings = [
            Finding("configuration", Verdict.FAIL, f"{path}: {problem}", advice)
            for problem in exc.problems
        ]
        return Config(), findings if path else []
    good = passed("configuration", f"{path}: ok, {len(config.role)} roles")
    return config, [good] if path else []


def _admin_check(admin: AdminConfig, daemon: Daemon | None) -> Check:
    if daemon is None:
        return Check("admin", "daemon", partial(check_free, "admin", admin.listen))
    return Check("admin", "daemon", partial(check_health, admin.listen))


def _find(control: Path) -> tuple[Daemon | None, ControlError | None]:
    try:
        return find_daemon(control), None
    except ControlError as exc:
        return None, exc


def _host_checks(request: Request, daemon: Daemon | None) -> Iterator[Check]:
    yield Check("clock", "host", check_clock)
    yield Check("kernel", "host", check_kernel)
    state = daemon.state if daemon else request.state
    uid = owner_of(daemon.pid) if daemon else os.getuid()
    yield Check("state directory", "host", partial(check_state, state, uid))
    for address in request.health:
        yield Check("health port", address, partial(check_health, address))
    if daemon is not None:
        yield Check("control socket", "daemon", partial(check_socket, request.control))
        yield Check("daemon", "daemon", partial(check_daemon, daemon))
        if daemon.file is not None:
            yield Check("configuration", "daemon", partial(check_file, daemon, daemon.file))


def _process_checks(daemon: Daemon | None, roles: Sequence[RoleConfig]) -> Iterator[Check]:
    """Of the processes that run roles, and of the roles' states."""
    if daemon is None:
        if roles:
            yield Check("descriptors", "host", partial(check_descriptors, roles, None))
        return
    by_pid: dict[int, list[RoleConfig]] = {}
    for role in roles:
        pid = daemon.rows.get(role.name, {}).get("pid")
        by_pid.setdefault(pid if isinstance(pid, int) else daemon.pid, []).append(role)
    for pid, of_pid in (by_pid or {daemon.pid: []}).items():
        subject = "daemon" if pid == daemon.pid else of_pid[0].name
        yield Check("descriptors", subject, partial(check_descriptors, of_pid, pid))
    for row in states_of(daemon, roles):
        yield Check("state", str(row["name"]), partial(check_role_state, row))
