"""The TLS of a server's listeners, which follows the files; and the peers that are revoked."""

import ssl
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TypeAlias

import trio

from tunneld.accepting import is_local
from tunneld.certfile import Fact
from tunneld.config import Frontend, ServerConfig, TunnelListener
from tunneld.prepared import FileChange, Prepared
from tunneld.role import RoleError
from tunneld.tlsmaterial import Loaded, ServerSource, TlsMaterial
from tunneld.tlspeers import TlsPeers

_KEYS = {"cert": "cert", "key": "key", "ca": "client-ca", "crl": "crl"}
"""What a listener's table calls the files."""
_TUNNEL = "tunnel"
_WEBSOCKET = "websocket"

Current: TypeAlias = Callable[[], ssl.SSLContext]
"""Gives the context for the next handshake."""
Alpn: TypeAlias = tuple[Sequence[str], Sequence[str], Sequence[str]]
"""What frontends, the tunnel listener and the WebSocket listener offer."""


class ServerTls:
    """See the module.

    Args:
      path: makes the name of a file absolute.
      clients: who is connected to the frontends.
      agents: who is connected to the tunnel listener.
    """

    def __init__(
        self,
        path: Callable[[str], str],
        alpn: Alpn,
        clients: TlsPeers,
        agents: TlsPeers,
    ) -> None:
        self._path = path
        self._alpn = alpn
        self._clients = clients
        self._agents = agents
        self._materials: dict[str, TlsMaterial] = {}
        self._lists_changed = trio.Event()

    def load(self, config: ServerConfig) -> None:
        """Read the files, before anything is served.

        Raises:
          RoleError: one cannot be used.
        """
        self._materials = {
            name: TlsMaterial(source) for name, source in self._sources(config).items()
        }

    def frontend(self, index: int) -> Current | None:
        """What gives the context of a frontend for the next handshake; None for a plain one."""
        return self._current(_frontend(index))

    def tunnel(self) -> Current:
        """The same of the tunnel listener."""
        current = self._current(_TUNNEL)
        assert current is not None
        return current

    def websocket(self) -> Current | None:
        """The same of what is around WebSockets; None for nothing."""
        return self._current(_WEBSOCKET)

    def facts(self) -> Iterator[tuple[str, Fact]]:
        """What the certificates and lists in use say, with the key that names the file."""
        for name, material in self._materials.items():
            for fact in material.loaded.facts:
                yield f"{name}.{_KEYS[fact.use]}", fact

    def prepare(self, config: ServerConfig) -> Prepared:
        """Read what has changed.

        Raises:
          RoleError: a file cannot be used.
        """
        changes: list[FileChange] = []
        news: list[tuple[TlsMaterial, Loaded]] = []
        for name, source in self._sources(config).items():
            material = self._materials.get(name)
            if material is None or (loaded := material.prepare(source)) is None:
                continue
            news.append((material, loaded))
            changes += [
                FileChange(f"{name}.{_KEYS[use]}", old, new)
                for use, old, new in material.changes(loaded)
            ]
        return Prepared(changes, partial(self._take, news))

    def _take(self, news: Sequence[tuple[TlsMaterial, Loaded]]) -> None:
        for material, loaded in news:
            material.take(loaded)
        if news:
            self._lists_changed.set()

    async def end_revoked(self, patience: Callable[[], float]) -> None:
        """Whenever files change, end the connections of peers that are revoked now.

        Args:
          patience: gives seconds for a handshake, which may have begun with the old files.
        """
        while True:
            await self._lists_changed.wait()
            self._lists_changed = trio.Event()
            await self._look_at_peers()
            with trio.move_on_after(patience()):
                await self._lists_changed.wait()
            await self._look_at_peers()

    async def _look_at_peers(self) -> None:
        lists = {name: material.loaded.crls for name, material in self._materials.items()}
        of_agents = lists.pop(_TUNNEL, ())
        lists.pop(_WEBSOCKET, None)  # it asks for no certificate
        await self._agents.end_revoked(of_agents, "agent")
        of_clients = (crl for crls in lists.values() for crl in crls)
        await self._clients.end_revoked(of_clients, "client")

    def _current(self, name: str) -> Current | None:
        material = self._materials.get(name)
        if material is None:
            return None
        return lambda: material.context

    def _sources(self, config: ServerConfig) -> Mapping[str, ServerSource]:
        frontends, tunnel, websocket = self._alpn
        sources = {
            _frontend(index): self._source(each, frontends)
            for index, each in enumerate(config.frontends)
            if _speaks_tls(each)
        }
        sources[_TUNNEL] = self._source(config.tunnel, tunnel)
        outer = config.websocket
        if outer is not None and outer.cert:
            cert, key = self._path(outer.cert), self._path(outer.key)
            sources[_WEBSOCKET] = ServerSource(cert=cert, key=key, ca="", alpn=tuple(websocket))
        return sources

    def _source(self, listener: Frontend | TunnelListener, alpn: Sequence[str]) -> ServerSource:
        return ServerSource(
            cert=self._path(listener.cert),
            key=self._path(listener.key),
            ca=listener.client_ca and self._path(listener.client_ca),
            crl=tuple(map(self._path, listener.crl)),
            alpn=tuple(alpn),
            min_version=listener.tls_min_version,
            ciphers=listener.ciphers,
            optional=bool(listener.secrets),
        )


def _frontend(index: int) -> str:
    return f"frontends[{index}]"


def _speaks_tls(frontend: Frontend) -> bool:
    """Raises RoleError: what it is and what it has do not fit."""
    if is_local(frontend.listen):
        if frontend.cert:
            raise RoleError(f"{frontend.listen} is a UNIX socket, which is plain: remove cert")
        return False
    if not frontend.cert and frontend.plain:
        return False
    if not frontend.cert:
        raise RoleError(f"{frontend.listen} is TCP, which speaks TLS only: give cert and key")
    return True
