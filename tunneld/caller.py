"""Who asks for a connection: what the policy decides by, and what lists and logs show."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Caller:
    """A client, as far as it is known."""

    name: str
    """Its identity, by how it was proved:

    ``cert:NAME``     a certificate: NAME of ``spiffe://tunneld/client/NAME``, another URI SAN as it
                      is, else the common name
    ``user:NAME``     a user of this machine, as a UNIX socket tells it
    ``secret:NAME``   somebody who knows the secret of that name
    ``forward:NAME``  a remote forward of the configuration
    ``control``       the control socket, so the user who runs the daemon
    ``anonymous``     nobody was asked
    """
    address: str = ""
    """``host:port`` where it comes from; ``unix`` for a local one."""

    def __str__(self) -> str:
        return f"{self.name} from {self.address}" if self.address else self.name


CONTROL: Final = Caller("control")
"""Who uses the control socket."""
SERVER: Final = Caller("server")
"""Who asks an agent."""
ANONYMOUS: Final = "anonymous"
"""The name of a client that was not asked who it is."""
