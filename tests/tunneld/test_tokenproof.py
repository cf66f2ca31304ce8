"""Proofs of tokens."""

import hashlib
import hmac

import pytest

from tunneld.tokenproof import (
    authorization,
    is_proof,
    key_id,
    new_challenge,
    new_token,
    parse_authorization,
    proof,
    stored_key,
)

TOKEN = "tnl_correct-horse"
CHALLENGE = bytes(range(32))


def test_a_proof_is_what_the_formula_says() -> None:
    client_key = hmac.digest(TOKEN.encode(), b"tunneld token", "sha256")
    stored = hashlib.sha256(client_key).digest()
    signature = hmac.digest(stored, CHALLENGE + b"\0home", "sha256")
    expected = bytes(a ^ b for a, b in zip(client_key, signature, strict=True))
    assert stored_key(TOKEN) == stored
    assert proof(TOKEN, CHALLENGE, "home") == expected
    assert authorization(TOKEN, CHALLENGE, "home") == f"Proof {key_id(stored)} {expected.hex()}"


def test_a_proof_holds_for_its_token_challenge_and_agent_alone() -> None:
    made, stored = proof(TOKEN, CHALLENGE, "home"), stored_key(TOKEN)
    assert is_proof(made, stored, CHALLENGE, "home")
    assert not is_proof(made, stored_key("other"), CHALLENGE, "home")
    assert not is_proof(made, stored, new_challenge(), "home")
    assert not is_proof(made, stored, CHALLENGE, "other")


def test_what_the_server_keeps_makes_no_proof() -> None:
    stored = stored_key(TOKEN)
    signature = hmac.digest(stored, CHALLENGE + b"\0home", "sha256")
    forged = bytes(a ^ b for a, b in zip(stored, signature, strict=True))
    assert not is_proof(forged, stored, CHALLENGE, "home")


def test_tokens_and_challenges_are_never_the_same_twice() -> None:
    assert new_token() != new_token()
    assert new_challenge() != new_challenge()
    assert len(new_token()) == len("tnl_") + 43


def test_an_answer_is_parsed_as_it_was_written() -> None:
    answer = authorization(TOKEN, CHALLENGE, "home")
    assert parse_authorization(answer) == (
        key_id(stored_key(TOKEN)),
        proof(TOKEN, CHALLENGE, "home"),
    )


@pytest.mark.parametrize(
    "value",
    ["", "Bearer x", "Proof", "Proof ab cd", f"Proof {'0' * 16} {'0' * 62}", f"proof {'0' * 81}"],
)
def test_anything_else_is_no_answer(value: str) -> None:
    assert parse_authorization(value) is None
