"""Which files a role's configuration names, of those that are read again when they change."""

from collections.abc import Iterator
from pathlib import Path

from tunneld.config import AgentConfig, Frontend, RoleConfig, ServerConfig, TunnelListener


def files_of(config: RoleConfig, base: Path) -> list[str]:
    """Their paths, each once.

    Args:
      base: where relative ones start.
    """
    named = dict.fromkeys(name for name in _named(config) if name)
    return [str(base / name) for name in named]


def _named(config: RoleConfig) -> Iterator[str]:
    if isinstance(config, ServerConfig):
        for frontend in config.frontends:
            yield from _of_listener(frontend)
        yield from _of_listener(config.tunnel)
        if config.websocket is not None:
            yield from (config.websocket.cert, config.websocket.key)
    elif isinstance(config, AgentConfig):
        # Not the token and the like, which are read for each connection.
        yield from (config.cert, config.key, config.ca, *config.crl)


def _of_listener(listener: Frontend | TunnelListener) -> Iterator[str]:
    yield from (listener.cert, listener.key, listener.client_ca, listener.secrets, *listener.crl)
