"""Proofs of knowing a token without showing it, after SCRAM (RFC 5802 section 3).

A server keeps ``stored``, from which nobody can make a proof; an agent answers a challenge that is
drawn for its tunnel alone:

    client_key = HMAC-SHA256(token, "tunneld token")
    stored     = SHA-256(client_key)
    key_id     = the first 8 octets of SHA-256("tunneld key id" || stored)
    proof      = client_key XOR HMAC-SHA256(stored, challenge || 0x00 || agent id)

On the wire it is ``Proof KEY_ID PROOF``, both in hexadecimal.
"""

import hashlib
import hmac
import re
import secrets

SCHEME = "Proof"
CHALLENGE_SIZE = 32
"""Octets, random for each tunnel."""

_PROOF = re.compile(r"Proof ([0-9a-f]{16}) ([0-9a-f]{64})")


def new_token() -> str:
    """A random token of 256 bits."""
    return f"tnl_{secrets.token_urlsafe(32)}"


def new_challenge() -> bytes:
    """`CHALLENGE_SIZE` random octets."""
    return secrets.token_bytes(CHALLENGE_SIZE)


def stored_key(token: str) -> bytes:
    """What a server keeps of a token: 32 octets."""
    return hashlib.sha256(_client_key(token)).digest()


def key_id(stored: bytes) -> str:
    """What a token is found by, which tells nothing of it: 16 hexadecimal digits."""
    return hashlib.sha256(b"tunneld key id" + stored).hexdigest()[:16]


def authorization(token: str, challenge: bytes, agent_id: str) -> str:
    """An agent's answer to ``challenge``."""
    stored = stored_key(token)
    return f"{SCHEME} {key_id(stored)} {proof(token, challenge, agent_id).hex()}"


def parse_authorization(value: str) -> tuple[str, bytes] | None:
    """Key id and proof of such an answer; None if it is something else."""
    found = _PROOF.fullmatch(value)
    return (found[1], bytes.fromhex(found[2])) if found else None


def proof(token: str, challenge: bytes, agent_id: str) -> bytes:
    """That whoever answers ``challenge`` as ``agent_id`` knows the token: 32 octets."""
    return _xor(_client_key(token), _signature(stored_key(token), challenge, agent_id))


def is_proof(octets: bytes, stored: bytes, challenge: bytes, agent_id: str) -> bool:
    """Whether ``octets`` are the `proof` of the token that ``stored`` is of."""
    client_key = _xor(octets, _signature(stored, challenge, agent_id))
    return hmac.compare_digest(hashlib.sha256(client_key).digest(), stored)


def _client_key(token: str) -> bytes:
    return hmac.digest(token.encode("utf-8", "surrogateescape"), b"tunneld token", "sha256")


def _signature(stored: bytes, challenge: bytes, agent_id: str) -> bytes:
    message = challenge + b"\0" + agent_id.encode("utf-8", "surrogateescape")
    return hmac.digest(stored, message, "sha256")


def _xor(first: bytes, second: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(first, second, strict=True))
