"""Reads role tables, from the daemon's TOML file or a topology, and reports every mistake."""

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from tunneld.config import (
    KINDS,
    MOST,
    AdminConfig,
    AgentConfig,
    Config,
    Forward,
    Frontend,
    LogConfig,
    RoleConfig,
    ServerConfig,
    TunnelListener,
    WebsocketListener,
    parse_roles,
)
from tunneld.configcheck import UNIX_PREFIX, admin_problems, group_problems, role_problems
from tunneld.schema import Problem, did_you_mean, join, shown, struct_problems

_Table = TypeVar("_Table", AgentConfig, ServerConfig, Frontend, TunnelListener, WebsocketListener)
_Listener = TypeVar("_Listener", Frontend, Forward)
_KEYS = ("log", "admin", "watch", "buffer-memory", "role")
_AGENT_FILES = (
    "websocket_ca",
    "http_proxy_credentials",
    "http_proxy_ca",
    "cert",
    "key",
    "ca",
    "crl",
    "token_path",
    "audit",
)


class ConfigError(Exception):
    """A configuration with mistakes, all of them; ``source`` is the file or what stands for it."""

    def __init__(self, source: str, problems: Sequence[Problem]) -> None:
        super().__init__(source, problems)
        self.source = source
        self.problems = tuple(problems)

    def __str__(self) -> str:
        return "\n".join(f"{self.source}: {problem}" for problem in self.problems)


def load_config(path: Path) -> Config:
    """The configuration in ``path``; relative file names in it start at its directory.

    Raises:
      ConfigError: it cannot be read, is no TOML, or has mistakes (all are reported).
    """
    table = _read_toml(path)
    watch = table.get("watch", True)
    problems = [
        Problem(key, f"unknown key{did_you_mean(key, _KEYS)}") for key in table if key not in _KEYS
    ]
    if not isinstance(watch, bool):
        problems.append(Problem("watch", f"expected true or false, got {shown(watch)}"))
    memory = table.get("buffer-memory", 0)
    if not isinstance(memory, int) or isinstance(memory, bool) or not 0 <= memory <= MOST:
        text = f"expected octets, 0 to {MOST}, got {shown(memory)}"
        problems.append(Problem("buffer-memory", text))
    base = path.absolute().parent
    problems += _daemon_problems(table)
    try:
        roles = load_roles(table.get("role", []), base, source=str(path), at="role")
    except ConfigError as exc:
        raise ConfigError(str(path), [*problems, *exc.problems]) from None
    _raise_if(str(path), problems)
    log = msgspec.convert(table.get("log", {}), LogConfig)
    return Config(
        log=log,
        admin=_admin(table, base),
        watch=watch,
        buffer_memory=memory,
        role=roles,
    )


def _daemon_problems(table: dict[str, Any]) -> list[Problem]:
    """Mistakes in the tables that are about no role."""
    problems = [*struct_problems(table.get("log", {}), LogConfig, "log")]
    if "admin" in table:
        problems += struct_problems(table["admin"], AdminConfig, "admin")
        if not problems:
            problems += admin_problems(msgspec.convert(table["admin"], AdminConfig), "admin")
    return problems


def _admin(table: dict[str, Any], base: Path) -> AdminConfig | None:
    if "admin" not in table:
        return None
    admin = msgspec.convert(table["admin"], AdminConfig)
    if not admin.listen.startswith(UNIX_PREFIX):
        return admin
    path = base / admin.listen.removeprefix(UNIX_PREFIX)
    return msgspec.structs.replace(admin, listen=f"{UNIX_PREFIX}{path}")


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as exc:
        problem = f"cannot be read: {exc.strerror}"
    except UnicodeDecodeError as exc:
        problem = f"is not UTF-8 text: octet {exc.object[exc.start]:#04x} at offset {exc.start}"
    except tomllib.TOMLDecodeError as exc:
        problem = f"is not TOML: {exc}"
    raise ConfigError(str(path), [Problem("", problem)])


def load_roles(tables: object, base: Path, *, source: str, at: str) -> tuple[RoleConfig, ...]:
    """Typed and checked roles from plain maps.

    Args:
      base: absolute directory where relative file names in the tables start.
      source: what the errors name as the origin of the tables.
      at: path of the tables in it.
    Raises:
      ConfigError: with all mistakes.
    """
    if not isinstance(tables, list):
        message = f"expected an array of tables, [[{at}]], got {shown(tables)}"
        raise ConfigError(source, [Problem(at, message)])
    placed = [(table, f"{at}[{index}]") for index, table in enumerate(tables)]
    _raise_if(source, [each for table, path in placed for each in _table_problems(table, path)])
    roles = tuple(_with_absolute_paths(role, base) for role in parse_roles(tables))
    checked = [(role, path) for role, (_, path) in zip(roles, placed, strict=True)]
    problems = [each for role, path in checked for each in role_problems(role, path)]
    _raise_if(source, [*problems, *group_problems(checked)])
    return roles


def _raise_if(source: str, problems: Sequence[Problem]) -> None:
    if problems:
        raise ConfigError(source, problems)


def _table_problems(table: object, path: str) -> list[Problem]:
    if not isinstance(table, dict):
        return [Problem(path, f"expected a table, got {shown(table)}")]
    kind = table.get("kind")
    where = join(path, "kind")
    if kind is None:
        return [Problem(where, f"is missing, expected one of {', '.join(KINDS)}")]
    if not isinstance(kind, str) or kind not in KINDS:
        hint = did_you_mean(str(kind), KINDS)
        return [Problem(where, f"unknown role {shown(kind)}{hint}")]
    return list(struct_problems(table, KINDS[kind], path))


def _with_absolute_paths(role: RoleConfig, base: Path) -> RoleConfig:
    if isinstance(role, AgentConfig):
        return _absolute(role, base, _AGENT_FILES)
    if isinstance(role, ServerConfig):
        keys = ("cert", "key", "client_ca", "crl", "secrets")
        frontends = tuple(
            _absolute_listen(_absolute(each, base, keys), base) for each in role.frontends
        )
        forwards = tuple(_absolute_listen(each, base) for each in role.forwards)
        tunnel = _absolute(role.tunnel, base, keys)
        websocket = role.websocket and _absolute(role.websocket, base, ("cert", "key"))
        return msgspec.structs.replace(
            _absolute(role, base, ("audit",)),
            frontends=frontends,
            tunnel=tunnel,
            forwards=forwards,
            websocket=websocket,
        )
    return role


def _absolute_listen(table: _Listener, base: Path) -> _Listener:
    """``table`` with the path of its UNIX socket, if it has one, made absolute."""
    if not table.listen.startswith(UNIX_PREFIX):
        return table
    path = base / table.listen.removeprefix(UNIX_PREFIX)
    return msgspec.structs.replace(table, listen=f"{UNIX_PREFIX}{path}")


def _absolute(table: _Table, base: Path, keys: Sequence[str]) -> _Table:
    """``table`` with the file names under ``keys`` made absolute; empty ones stay empty."""
    named = {key: getattr(table, key) for key in keys if getattr(table, key)}
    paths = {
        key: str(base / value) if isinstance(value, str) else tuple(str(base / v) for v in value)
        for key, value in named.items()
    }
    return msgspec.structs.replace(table, **paths)
