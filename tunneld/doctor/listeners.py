"""A server's listeners, of whatever kind: where they are, and what they show."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tunneld.config import AgentConfig, Frontend, RoleConfig, ServerConfig, TunnelListener

UNIX = "unix:"
INHERITED = "systemd:"


@dataclass(frozen=True, slots=True)
class Listening:
    """One listener of the configuration."""

    title: str
    listen: str
    cert: str = ""
    """"" for one without TLS."""
    key: str = ""
    client_ca: str = ""
    crl: tuple[str, ...] = ()
    secrets: str = ""


def listeners_of(config: RoleConfig) -> Iterator[Listening]:
    """All of a role's; a server's frontends first."""
    if isinstance(config, AgentConfig):
        return
    if not isinstance(config, ServerConfig):
        yield Listening("listener", config.listen)
        return
    for index, each in enumerate(config.frontends):
        yield _guarded(f"frontend {index + 1}" if len(config.frontends) > 1 else "frontend", each)
    yield _guarded("tunnel", config.tunnel)
    if config.websocket is not None:
        web = config.websocket
        yield Listening("websocket", web.listen, web.cert, web.key)
    for forward in config.forwards:
        yield Listening(f"forward {forward.name}", forward.listen)


def _guarded(title: str, of: Frontend | TunnelListener) -> Listening:
    return Listening(title, of.listen, of.cert, of.key, of.client_ca, of.crl, of.secrets)


def address_of(
    listening: Listening, every: Sequence[Listening], addresses: Sequence[str]
) -> str | None:
    """Where a running server listens; None where that cannot be told.

    Args:
      addresses: of all listeners, as the server says them, in their order.
    """
    if not listening.listen.startswith(INHERITED) and not listening.listen.endswith(":0"):
        return listening.listen
    if len(addresses) != len(every):
        return None  # a name that stands for several addresses, or processes with their own
    return addresses[every.index(listening)]
