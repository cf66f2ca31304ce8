"""What an agent tells its server."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunneld import __version__
from tunneld.agentinfo import AgentInfo, AgentInfoError


def test_it_survives_the_wire() -> None:
    info = AgentInfo(agent_id="home", identifiers="host=a.example&cidr=10.0.0.0/8")
    assert AgentInfo.decode(info.encode()) == info
    assert (info.version, info.capabilities) == (__version__, ("connect", "rules", "leave"))


def test_a_challenge_is_answered_by_a_proof_and_never_by_the_token() -> None:
    info = AgentInfo(agent_id="home", authorization="Bearer tnl_home")
    assert info.answering(b"ab" * 32).authorization.startswith("Proof ")
    for odd in (b"", b"ab", b"AB" * 32, b"a" * 65, b"zz" * 32, b"ab" * 1000):
        assert info.answering(odd).authorization == ""
    assert AgentInfo(agent_id="home").answering(b"ab" * 32).authorization == ""


def test_members_of_later_versions_are_ignored() -> None:
    assert AgentInfo.decode(b'{"agent-id": "home", "moods": ["good"]}').agent_id == "home"


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"", "unusable answer of the agent: "),
        (b"{}", "missing required field `agent-id`"),
        (b'{"agent-id": ""}', "agent id must have 1 to 253 characters"),
        (b'{"agent-id": "' + b"x" * 254 + b'"}', "agent id must have 1 to 253 characters"),
        (b'{"agent-id": "a", "identifiers": "host=%zz"}', "fail to parse url encoded string"),
        (b'{"agent-id": "\xff"}', "unusable answer of the agent: "),
        (b'{"agent-id": "a", "x": ' + b"[" * 60_000, "maximum recursion depth exceeded"),
    ],
)
def test_what_is_no_answer_is_said(body: bytes, text: str) -> None:
    with pytest.raises(AgentInfoError) as caught:
        AgentInfo.decode(body)
    assert text in str(caught.value)


@given(st.binary(max_size=200))
def test_octets_are_an_answer_or_an_error(body: bytes) -> None:
    with pytest.raises(AgentInfoError):
        AgentInfo.decode(body)
