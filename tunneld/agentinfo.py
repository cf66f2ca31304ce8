"""What an agent tells its server, and the server its agent, when a tunnel begins.

The server, HTTP/2 client of the tunnel, asks `PATH` with its own id and the number of servers
there are in headers; the agent answers with a JSON object (`AgentInfo`).
"""

import re

import msgspec

from tunneld import __version__, tokenproof
from tunneld.identifiers import parse_foreign_identifiers

PATH = b"/.well-known/tunneld/agent"
LEAVING_PATH = b"/.well-known/tunneld/leaving"
"""Asked by a server that is about to go: the agent shall open the next tunnel before it does."""
SERVER_ID = b"tunneld-server-id"
SERVER_COUNT = b"tunneld-server-count"
CHALLENGE = b"tunneld-challenge"
"""Hexadecimal; from servers that want a token proved (`tunneld.tokenproof`)."""
RULES = "rules"
"""Capability: to go by what the server says of addresses (`rh2.RULES`)."""
LEAVE = "leave"
"""Capability: to look for another server when asked for `LEAVING_PATH`."""
MAX_SIZE = 64 * 1024
"""Octets of the agent's answer, at most."""


class AgentInfoError(Exception):
    """The agent's answer is not one: the message says what was seen and expected."""


class AgentInfo(msgspec.Struct, frozen=True, rename="kebab"):
    """The agent's answer; unknown members are ignored, so that later versions may add some."""

    agent_id: str
    identifiers: str = ""
    """URL query text, as in the configuration."""
    version: str = __version__
    capabilities: tuple[str, ...] = ("connect", RULES, LEAVE)
    authorization: str = ""
    """For servers that know their agents by a token: the answer to their challenge
    (`tunneld.tokenproof`), or ``Bearer …`` where there was none."""

    def answering(self, challenge: bytes) -> "AgentInfo":
        """The same with a proof of the token in place of the token, if there is one.

        Args:
          challenge: as the server has sent it; to one that is none, no token is proved or shown.
        """
        if not self.authorization:
            return self
        token = self.authorization.removeprefix("Bearer ")
        proof = ""
        if re.fullmatch(rb"[0-9a-f]{32,256}", challenge) and not len(challenge) % 2:
            octets = bytes.fromhex(challenge.decode())
            proof = tokenproof.authorization(token, octets, self.agent_id)
        return msgspec.structs.replace(self, authorization=proof)

    def encode(self) -> bytes:
        """As JSON."""
        return msgspec.json.encode(self)

    @classmethod
    def decode(cls, body: bytes) -> "AgentInfo":
        """From JSON.

        Raises:
          AgentInfoError: not JSON, missing or wrong members, bad identifiers.
        """
        try:
            info = msgspec.json.decode(body, type=cls)
            parse_foreign_identifiers(info.identifiers)
        except (msgspec.DecodeError, ValueError, RecursionError) as exc:
            raise AgentInfoError(f"unusable answer of the agent: {exc}") from exc
        if not info.agent_id or len(info.agent_id) > 253:
            raise AgentInfoError("agent id must have 1 to 253 characters")
        return info
