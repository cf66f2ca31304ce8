"""The files of secrets that a server's listeners know their agents and clients by."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TypeAlias

from tunneld.config import Frontend, ServerConfig
from tunneld.conns import Conns
from tunneld.events import Event, emit
from tunneld.prepared import FileChange, Prepared
from tunneld.role import RoleError
from tunneld.secret import Secret
from tunneld.secretsfile import SecretsError, SecretsFile
from tunneld.server.gate import Gate
from tunneld.server.registry import Registry
from tunneld.server.verifier import Guard, Verifier

Known: TypeAlias = tuple[set[str], set[str]]
"""Identities of agents, and of clients."""


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
        self._gates: list[Gate] = []
        self._guard = Guard()

    def load(self, config: ServerConfig) -> None:
        """Read the files, before anything is served.

        Raises:
          RoleError: one cannot be used.
        """
        self.prepare(config).commit()
        self._gates = [Gate(each, self._verifier(each)) for each in config.frontends]

    def prepare(self, config: ServerConfig) -> Prepared:
        """Read what is new, and what has changed in the files.

        Raises:
          RoleError: one cannot be used.
        """
        changes: list[FileChange] = []
        commits: list[Callable[[], None]] = []
        files: dict[str, SecretsFile] = {}
        try:
            for field, name in _named(config):
                file = self.files.get(name)
                files[name] = file or SecretsFile(Path(self._path(name)))
                if file is None:
                    continue
                before, found = {each.name: each for each in file.secrets()}, file.read()
                if found != before:
                    changes.append(FileChange(field, *_difference(before, found)))
                    commits.append(partial(file.take, found))
        except SecretsError as exc:
            raise RoleError(str(exc)) from exc

        def commit() -> None:
            for each in commits:
                each()
            self.files = files
            for gate, frontend in zip(self._gates, config.frontends, strict=False):
                gate.reconfigure(frontend, self._verifier(frontend))

        return Prepared(changes, commit)

    def _verifier(self, frontend: Frontend) -> Verifier | None:
        file = self.get(frontend.secrets)
        if file is None:
            return None
        known = self._verifiers.get(frontend.secrets)
        if known is None or known.file is not file:
            known = self._verifiers[frontend.secrets] = Verifier(file, self._guard)
        return known

    def names(self, config: ServerConfig) -> Known:
        """Whose secrets are known."""
        of_agents = self._identities(config.tunnel.secrets)
        of_clients = [self._identities(each.secrets) for each in config.frontends]
        return of_agents, set().union(*of_clients)

    def _identities(self, name: str) -> set[str]:
        file = self.files.get(name)
        return {f"secret:{each.name}" for each in file.secrets()} if file is not None else set()

    def get(self, name: str) -> SecretsFile | None:
        """The file of that name; None for ""."""
        return self.files[name] if name else None

    def gate(self, index: int) -> Gate:
        """Who may use a frontend, by its place in the configuration."""
        return self._gates[index]


def end_forgotten(before: Known, after: Known, registry: Registry, conns: Conns) -> None:
    """End the tunnels and connections of those whose secrets are known no more."""
    agents, clients = before[0] - after[0], before[1] - after[1]
    reason = "its secret is known no more"
    for tunnel in list(registry.tunnels):
        if not agents.isdisjoint(tunnel.identity.split()):
            peer = tunnel.peer
            emit(Event.AGENT_KILLED, agent=tunnel.info.agent_id, peer=peer, reason=reason)
            tunnel.kill(reason)
    for conn in list(conns):
        if conn.caller.name in clients:
            conn.kill(reason)


def _named(config: ServerConfig) -> list[tuple[str, str]]:
    """The files' names, each once, with the key that says it first."""
    named = [
        ("tunnel.secrets", config.tunnel.secrets),
        *((f"frontends[{i}].secrets", each.secrets) for i, each in enumerate(config.frontends)),
    ]
    first = {name: field for field, name in reversed(named) if name}
    return [(field, name) for name, field in first.items()]


def _difference(before: Mapping[str, Secret], after: Mapping[str, Secret]) -> tuple[str, str]:
    """What people are told: names and numbers, nothing of the secrets."""
    changed = [name for name in after if name in before and after[name] != before[name]]
    words = [
        *(f"+{name}" for name in after if name not in before),
        *(f"-{name}" for name in before if name not in after),
        *(f"~{name}" for name in changed),
    ]
    number = f"{len(after)} secret{'' if len(after) == 1 else 's'}"
    return f"{len(before)}", f"{number}: {' '.join(words)}"
