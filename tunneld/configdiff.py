"""What is different between two configurations, and what it takes to put each difference into
effect."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import msgspec
from msgspec import Struct

from tunneld.config import AgentConfig, Config, RoleConfig, ServerConfig, kind_of

LIVE: Mapping[type[RoleConfig], frozenset[str]] = {
    ServerConfig: frozenset(
        {
            "frontends.cert",
            "frontends.key",
            "frontends.client_ca",
            "frontends.secrets",
            "frontends.users",
            "frontends.crl",
            "frontends.tls_min_version",
            "frontends.ciphers",
            "tunnel.cert",
            "tunnel.key",
            "tunnel.client_ca",
            "tunnel.secrets",
            "tunnel.crl",
            "tunnel.tls_min_version",
            "tunnel.ciphers",
            "websocket.cert",
            "websocket.key",
            "policy",
            "limits",
            "server_count",
            "any_agent_id",
            "agent_wait",
            "konnectivity_wording",
            "dial_timeout",
            "head_timeout",
            "max_handshakes",
            "keepalive",
            "frontend_keepalive",
            "half_close_grace",
            "idle_timeout",
            "half_closed_timeout",
            "max_connection_age",
            "drain_timeout",
        }
    ),
    AgentConfig: frozenset(
        {
            "websocket_ca",
            "http_proxy",
            "http_proxy_credentials",
            "http_proxy_ca",
            "cert",
            "key",
            "ca",
            "crl",
            "server_name",
            "policy",
            "limits",
            "token_path",
            "alpn",
            "connect_timeout",
            "first_byte_hold",
            "keepalive",
            "backoff_min",
            "backoff_max",
            "sync_interval",
            "sync_interval_cap",
            "sync_forever",
            "probe_interval",
            "drain_timeout",
        }
    ),
}
"""Fields that a running role takes over (`Role.prepare`), from the next connection, dial or drain
on; what is in a table by the table's name and its own, ``policy`` with all that is in it. Every
other field is built into the running role: to change it, the role is drained and starts anew."""

_USERINFO = re.compile(r"(?<=://)[^/@\s]+@")
_PROXY_USERINFO = re.compile(r"(\w+://)?.*@")
"""The same of a proxy, whose URL may have no scheme, and a password that should be escaped."""
_LONGEST = 200
"""Characters of a value that are shown."""


class How(StrEnum):
    """What a change takes."""

    LIVE = "live"
    RESTART = "restart"
    ADD = "add"
    REMOVE = "remove"
    UPGRADE = "upgrade"
    """It is built into the daemon: a new process has it, by ``tunnelctl upgrade`` or a restart."""


@dataclass(frozen=True, slots=True)
class Change:
    """One difference. ``field`` is "" where the whole role comes or goes, and ``role`` is "" where
    it is about the daemon."""

    role: str
    field: str
    """As the file has it: ``frontends[0].cert``."""
    old: str
    new: str
    """For people; passwords are left out."""
    how: How

    def to_map(self) -> dict[str, str]:
        """As the control protocol has it."""
        row: dict[str, str] = msgspec.to_builtins(self)
        return row


def compare(old: Sequence[RoleConfig], new: Sequence[RoleConfig]) -> list[Change]:
    """All differences, in the order of ``new``; what is removed comes first."""
    before = {role.name: role for role in old}
    after = {role.name: role for role in new}
    return [
        *(Change(name, "", "", "", How.REMOVE) for name in before if name not in after),
        *(each for role in new for each in _compare_role(before.get(role.name), role)),
    ]


def compare_daemon(old: Config, new: Config) -> list[Change]:
    """What is different beside the roles."""
    return [
        Change("", field, _shown(a), _shown(b), How.LIVE if name == "watch" else How.UPGRADE)
        for field, name, a, b in _differences(old, msgspec.structs.replace(new, role=old.role))
    ]


def _compare_role(old: RoleConfig | None, new: RoleConfig) -> Iterator[Change]:
    if old is None:
        yield Change(new.name, "", "", "", How.ADD)
        return
    if type(old) is not type(new):
        yield Change(new.name, "kind", kind_of(old), kind_of(new), How.RESTART)
        return
    live = LIVE.get(type(new), frozenset())
    for field, name, before, after in _differences(old, new):
        top = name.partition(".")[0]
        how = How.LIVE if name in live or top in live else How.RESTART
        shown = _shown_proxy if name == "http_proxy" else _shown
        yield Change(new.name, field, shown(before), shown(after), how)


def _differences(
    old: Struct, new: Struct, path: str = "", name: str = ""
) -> Iterator[tuple[str, str, object, object]]:
    """Field as the file has it, its name without indices, both values."""
    for field in msgspec.structs.fields(new):
        before, after = getattr(old, field.name), getattr(new, field.name)
        if before != after:
            at = f"{path}{field.encode_name}"
            yield from _values(before, after, at, f"{name}{field.name}")


def _values(
    before: object, after: object, path: str, name: str
) -> Iterator[tuple[str, str, object, object]]:
    if isinstance(before, Struct) and type(before) is type(after):
        assert isinstance(after, Struct)
        yield from _differences(before, after, f"{path}.", f"{name}.")
    elif _are_tables(before, after):
        assert isinstance(before, tuple)
        assert isinstance(after, tuple)
        for index, (one, other) in enumerate(zip(before, after, strict=True)):
            if one != other:
                yield from _values(one, other, f"{path}[{index}]", name)
    else:
        yield path, name, before, after


def _are_tables(before: object, after: object) -> bool:
    """Whether both are arrays of tables, which can be compared one by one."""
    return (
        isinstance(before, tuple)
        and isinstance(after, tuple)
        and len(before) == len(after)
        and all(isinstance(each, Struct) for each in (*before, *after))
    )


def _shown(value: object) -> str:
    if isinstance(value, tuple) and any(isinstance(each, Struct) for each in value):
        return f"{len(value)} table{'' if len(value) == 1 else 's'}"
    if isinstance(value, Struct):
        return "a table"
    if value is None:
        return "none"
    plain = msgspec.to_builtins(value)
    text = plain if isinstance(plain, str) else msgspec.json.encode(plain).decode()
    text = _USERINFO.sub("***@", text)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def _shown_proxy(value: object) -> str:
    return _shown(_PROXY_USERINFO.sub(r"\1***@", str(value)))


def roles_to(how: How, changes: Iterable[Change]) -> set[str]:
    """The roles with such a change."""
    return {change.role for change in changes if change.how is how}
