"""Which class runs which table. Imported when the first role of a kind starts: an agent's process
need not load the DNS endpoint."""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import TypeAlias

from tunneld.config import (
    AgentConfig,
    DnsConfig,
    EchoConfig,
    GreeterConfig,
    HttpConfig,
    RoleConfig,
    ServerConfig,
)
from tunneld.role import Host, Role

Factory: TypeAlias = Callable[[RoleConfig, Host], Role]
Factories: TypeAlias = Mapping[type[RoleConfig], Factory]


def _lazy(module: str, name: str) -> Factory:
    def make(config: RoleConfig, host: Host) -> Role:
        role: Role = getattr(import_module(module), name)(config, host)
        return role

    return make


FACTORIES: Factories = {
    ServerConfig: _lazy("tunneld.server.role", "ServerRole"),
    AgentConfig: _lazy("tunneld.agent.role", "AgentRole"),
    GreeterConfig: _lazy("tunneld.endpoints.greeter", "GreeterRole"),
    HttpConfig: _lazy("tunneld.endpoints.http", "HttpRole"),
    EchoConfig: _lazy("tunneld.endpoints.echo", "EchoRole"),
    DnsConfig: _lazy("tunneld.endpoints.dns", "DnsRole"),
}
