import pytest

from tunneld.agent.policy import DestinationPolicy
from tunneld.config import DestinationPolicy as Config
from tunneld.config import DestinationRule as Rule
from tunneld.rules import RuleError


def why_not(policy: DestinationPolicy, host: str, address: str, server: str = "") -> str:
    return policy.check(host, 80, server).why_not(address)


def test_an_open_agent_dials_all_but_metadata() -> None:
    policy = DestinationPolicy(Config(open=True))
    assert not why_not(policy, "db.example", "10.0.0.1")
    assert "metadata" in why_not(policy, "db.example", "169.254.169.254")
    assert "metadata" in why_not(policy, "db.example", "::ffff:169.254.169.254")


def test_an_agent_without_a_policy_dials_nothing() -> None:
    assert "no rule allows it" in why_not(DestinationPolicy(Config()), "10.0.0.1", "10.0.0.1")


def test_its_own_rules_hold_whatever_the_server_says() -> None:
    rules = (Rule(action="allow", host=("db.example",), cidr=("10.0.0.0/8",)),)
    policy = DestinationPolicy(Config(rules=rules))
    assert not why_not(policy, "db.example", "10.0.0.1", "allow *")
    assert why_not(policy, "db.example", "11.0.0.1", "allow *")
    assert why_not(policy, "other.example", "10.0.0.1", "allow *")


def test_the_server_s_rules_hold_too() -> None:
    policy = DestinationPolicy(Config(open=True))
    why = why_not(policy, "db.example", "10.9.0.1", "deny 10.9.0.0/16; allow *")
    assert why == "denied by the server's policy (clause 1 of the server's rules)"
    assert not why_not(policy, "db.example", "10.8.0.1", "deny 10.9.0.0/16; allow *")


def test_in_shadow_mode_its_own_rules_deny_nothing() -> None:
    policy = DestinationPolicy(Config(mode="shadow"))
    assert not why_not(policy, "db.example", "10.0.0.1")
    assert why_not(policy, "db.example", "10.0.0.1", "deny *")


def test_rules_that_cannot_be_read_are_an_error() -> None:
    with pytest.raises(ValueError, match="expected 'allow' or 'deny'"):
        DestinationPolicy(Config(open=True)).check("db.example", 80, "everything")


def test_rules_that_make_no_sense_change_nothing() -> None:
    policy = DestinationPolicy(Config(open=True))
    with pytest.raises(RuleError):
        policy.replace(Config(rules=(Rule(action="allow", cidr=("x",)),)))
    assert policy.is_open
    assert not why_not(policy, "db.example", "10.0.0.1")
