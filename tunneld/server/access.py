"""The files of secrets that a server's listeners know their agents and clients by."""

from collections.abc import Callable, Iterator
from pathlib import Path

from tunneld.config import Frontend, ServerConfig
from tunneld.role import RoleError
from tunneld.secretsfile import SecretsError, SecretsFile
from tunneld.server.gate import Gate
from tunneld.server.verifier import Guard, Verifier


class Access:
    """See the module; each file is read once, however many listeners name it.

    Args:
      path: makes the name of a file absolute.
    """

    def __init__(self, path: Callable[[str], str]) -> None:
        self._path = path
        self.files: dict[str, SecretsFile] = {}
        """By the name that the configuration has for them."""
        self._verifiers: dict[str, Verifier] = {}
        self._guard = Guard()

    def load(self, config: ServerConfig) -> None:
        """Read the files, before anything is served.

        Raises:
          RoleError: one cannot be used.
        """
        try:
            for name in _names(config):
                self.files[name] = self.files.get(name) or SecretsFile(Path(self._path(name)))
        except SecretsError as exc:
            raise RoleError(str(exc)) from exc

    def get(self, name: str) -> SecretsFile | None:
        """The file of that name; None for ""."""
        return self.files[name] if name else None

    def gate(self, frontend: Frontend) -> Gate:
        """Who may use a frontend."""
        name = frontend.secrets
        if name and name not in self._verifiers:
            self._verifiers[name] = Verifier(self.files[name], self._guard)
        return Gate(frontend, self._verifiers.get(name))


def _names(config: ServerConfig) -> Iterator[str]:
    names = [config.tunnel.secrets, *(frontend.secrets for frontend in config.frontends)]
    yield from filter(None, names)
