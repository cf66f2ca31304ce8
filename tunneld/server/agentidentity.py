"""Who an agent has proved to be, and by what: its certificate, or a token."""

from collections.abc import Sequence

from tunneld.identity import agent_of_der
from tunneld.secretsfile import SecretsFile
from tunneld.server.tunnel import AgentRejectedError
from tunneld.transport.tls import TlsTransport

_BEARER = "Bearer "


class AgentIdentities:
    """Who the agent at the other end of a connection is: ``cert:NAME`` for each name of its
    certificate (`tunneld.identity.names_of`), ``cert:URI`` for each URI that others have put there,
    ``secret:NAME`` once a token is proved.

    Args:
      secrets: whose tokens are known; None for none.
    """

    def __init__(self, transport: TlsTransport, secrets: SecretsFile | None) -> None:
        certificate = transport.tls.getpeercert(binary_form=True)
        self.ids, uris = agent_of_der(certificate)
        """The agent ids that its certificate and token name."""
        self.names = [f"cert:{name}" for name in dict.fromkeys((*self.ids, *uris))]
        """Its identities."""
        self._has_certificate = bool(certificate)
        self._secrets = secrets

    @property
    def are_proved(self) -> bool:
        """Whether it has shown a certificate or proved a token, be it one that names nobody."""
        return self._has_certificate or bool(self.names)

    def add_proof(self, authorization: str, challenge: bytes, agent_id: str) -> None:
        """Take a native agent's answer to ``challenge``.

        Raises:
          AgentRejectedError: it needs a token, and has proved none.
        """
        if self._secrets is not None:
            name = self._secrets.check_proof(authorization, challenge, agent_id)
            shown = authorization.startswith(_BEARER)
            why = "it shows its token where it has to prove it" if shown else "it proves no token"
            self._add(name, f"{why} that is known here")

    def add_tokens(self, values: Sequence[str]) -> None:
        """Take the ``authorization`` of an agent of konnectivity, whose protocol can only show a
        token.

        Raises:
          AgentRejectedError: it needs a token, and has none that is good.
        """
        if self._secrets is not None:
            shown = len(values) == 1 and values[0].startswith(_BEARER)
            name = self._secrets.check_token(values[0].removeprefix(_BEARER)) if shown else None
            self._add(name, "it shows no token that is known here")

    def _add(self, name: str | None, why_not: str) -> None:
        if name is not None:
            self.ids.append(name)
            self.names.append(f"secret:{name}")
        elif not self._has_certificate:
            raise AgentRejectedError(f"{why_not}, and no certificate; see: tunnelctl secrets")
