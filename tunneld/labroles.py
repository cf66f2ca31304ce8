"""The roles of a topology, as roles of the daemon: renamed for their lab, with its certificates."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from ctl.messages import ControlError
from netns import Topology
from netns.lab import DEFAULT_LAB, full_name
from tunneld.config import GreeterConfig, HttpConfig, RoleConfig, ServerConfig
from tunneld.configfile import ConfigError, load_roles

PKI_VARIABLE = "${pki}"
"""Stands in a topology's roles for the directory of the lab's certificates."""

DRAIN_TIMEOUT = 2.0
"""Seconds, unless the topology says otherwise: nobody waits long for a lab to go down."""

_DEFAULT_AGENT = "demo"


def role_name(lab: str, name: str) -> str:
    """The name in the daemon of a lab's role: ``server``, or ``X/server`` in a lab X."""
    return name if lab == DEFAULT_LAB else f"{lab}/{name}"


def lab_roles(topology: Topology, lab: str, directory: Path, pki: Path) -> list[RoleConfig]:
    """The topology's roles, checked.

    Args:
      directory: where relative file names in them start.
      pki: has the certificates, already.
    Raises:
      ControlError: ``bad_request``, with all mistakes.
    """
    tables = [_with_defaults(table, pki) for table in topology.roles]
    try:
        roles = load_roles(tables, directory, source=f"topology {topology.name}", at="role")
    except ConfigError as exc:
        raise ControlError("bad_request", str(exc)) from exc
    return [_of_lab(role, topology, lab) for role in roles]


def server_hosts(topology: Topology) -> list[str]:
    """Addresses of the namespaces where servers run, for their certificates."""
    places = [table.get("namespace") for table in topology.roles if table.get("kind") == "server"]
    return [str(end.address.ip) for end in topology.ends() if end.namespace in places]


def agent_id(topology: Topology) -> str:
    """The id that the lab's agent certificate is for: its first agent's."""
    agents = [table for table in topology.roles if table.get("kind") == "agent"]
    return str(agents[0].get("agent-id", _DEFAULT_AGENT)) if agents else _DEFAULT_AGENT


def next_commands(lab: str, roles: list[RoleConfig]) -> list[str]:
    """Three commands to try when the lab is up."""
    option = "" if lab == DEFAULT_LAB else f" --name {lab}"
    servers = [role.name for role in roles if isinstance(role, ServerConfig)]
    via = f" --server {servers[0]}" if servers and lab != DEFAULT_LAB else ""
    commands: list[str] = []
    for role in roles:
        if isinstance(role, GreeterConfig) and servers:
            commands.append(f"tunnelctl grpc{via} {role.listen} --name demo")
        if isinstance(role, HttpConfig) and servers:
            commands.append(f"tunnelctl http{via} http://{role.listen}/ok")
    commands += [
        f"tunnelctl ns check{option}",
        f"tunnelctl ns graph{option}",
        "tunnelctl role list",
    ]
    return commands[:3]


def _with_defaults(table: Mapping[str, object], pki: Path) -> dict[str, Any]:
    drains = table.get("kind") in ("server", "agent")
    defaults = {"drain-timeout": DRAIN_TIMEOUT} if drains else {}
    filled: dict[str, Any] = _filled({**defaults, **table}, str(pki))
    return filled


def _filled(value: Any, pki: str) -> Any:
    """``value`` with the variable replaced, at any depth."""
    if isinstance(value, str):
        return value.replace(PKI_VARIABLE, pki)
    if isinstance(value, Mapping):
        return {key: _filled(item, pki) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_filled(item, pki) for item in value]
    return value


def _of_lab(role: RoleConfig, topology: Topology, lab: str) -> RoleConfig:
    known = [namespace.name for namespace in topology.namespaces]
    if role.namespace not in known:
        raise ControlError(
            "bad_request",
            f"topology {topology.name}: role {role.name!r} is in namespace {role.namespace!r}",
            f"namespaces are: {', '.join(known)}",
        )
    return msgspec.structs.replace(
        role, name=role_name(lab, role.name), namespace=full_name(lab, role.namespace)
    )
