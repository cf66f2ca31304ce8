"""The TLS of an agent, which follows the files; and the servers that are revoked."""

import ssl
from collections.abc import Callable, Iterator

import trio

from tunneld import rh2
from tunneld.certfile import Fact
from tunneld.config import AgentConfig
from tunneld.prepared import FileChange, Prepared
from tunneld.tlsmaterial import ClientSource, TlsMaterial
from tunneld.tlspeers import TlsPeers

HTTP2 = "h2"
"""What a konnectivity server picks."""


class AgentTls:
    """See the module.

    Args:
      path: makes the name of a file absolute; "" stays.
    Raises:
      RoleError: a file cannot be used.
    """

    def __init__(self, config: AgentConfig, path: Callable[[str], str]) -> None:
        self.servers = TlsPeers()
        self._path = path
        self._material = TlsMaterial(self._source(config))
        self._lists_changed = trio.Event()

    def current(self) -> ssl.SSLContext:
        """For the next handshake."""
        return self._material.context

    def facts(self) -> Iterator[tuple[str, Fact]]:
        """What the certificates and lists in use say, with the key that names the file."""
        for fact in self._material.loaded.facts:
            yield fact.use, fact

    def prepare(self, config: AgentConfig) -> Prepared:
        """Read what has changed.

        Raises:
          RoleError: a file cannot be used.
        """
        loaded = self._material.prepare(self._source(config))
        if loaded is None:
            return Prepared((), lambda: None)
        changes = [FileChange(*each) for each in self._material.changes(loaded)]

        def take() -> None:
            self._material.take(loaded)
            self._lists_changed.set()

        return Prepared(changes, take)

    async def end_revoked(self, patience: float) -> None:
        """Whenever files change, end the tunnels to servers that are revoked now.

        Args:
          patience: seconds for a handshake, which may have begun with the old files.
        """
        while True:
            await self._lists_changed.wait()
            self._lists_changed = trio.Event()
            await self.servers.end_revoked(self._material.loaded.crls, "server")
            with trio.move_on_after(patience):
                await self._lists_changed.wait()
            await self.servers.end_revoked(self._material.loaded.crls, "server")

    def _source(self, config: AgentConfig) -> ClientSource:
        return ClientSource(
            cert=self._path(config.cert),
            key=self._path(config.key),
            ca=self._path(config.ca),
            crl=tuple(map(self._path, config.crl)),
            alpn=(*config.alpn, rh2.ALPN, HTTP2),
        )
