import pytest

from tunneld.config import Policy as PolicyConfig
from tunneld.config import Rule
from tunneld.dialing import DialError
from tunneld.rules import RuleError
from tunneld.server.policy import Policy, Verdict

ALICE = "cert:alice"


def policy(*rules: Rule, **keys: object) -> Policy:
    return Policy(PolicyConfig(rules=rules, **keys))  # type: ignore[arg-type]


def verdict(
    policy: Policy, authority: str, client: str = ALICE, agent: str = "home", checks: bool = True
) -> Verdict:
    return policy.ruling(client, authority).through(agent, checks_addresses=checks)


def test_open_allows_all_but_metadata() -> None:
    opened = policy(open=True)
    assert opened.is_open
    assert not verdict(opened, "10.0.0.1:80").denied
    assert verdict(opened, "169.254.169.254:80").denied
    assert not verdict(opened, "name.example:80").decided
    assert not verdict(policy(open=True, metadata="allow"), "169.254.169.254:80").denied


def test_closed_denies_all() -> None:
    closed = policy()
    assert verdict(closed, "10.0.0.1:80").denied
    assert verdict(closed, "name.example:80").denied
    assert verdict(closed, "10.0.0.1:80").label == "no rule allows it"


def test_a_rule_is_about_its_clients() -> None:
    rules = policy(Rule(action="allow", client=("cert:al*", "user:root")))
    assert not verdict(rules, "10.0.0.1:80").denied
    assert not verdict(rules, "10.0.0.1:80", "user:root").denied
    assert verdict(rules, "10.0.0.1:80", "secret:alice").denied
    assert verdict(rules, "10.0.0.1:80", "anonymous").denied


def test_the_owner_and_forwards_need_no_rule_but_can_be_denied() -> None:
    rules = policy(Rule(action="allow", client=(ALICE,)))
    assert not verdict(rules, "10.0.0.1:80", "control").denied
    assert not verdict(rules, "10.0.0.1:80", "forward:db").denied
    assert verdict(policy(Rule(action="deny")), "10.0.0.1:80", "control").denied


def test_a_rule_is_about_its_agents() -> None:
    rules = policy(Rule(action="allow", agent=("home",)))
    assert rules.ruling(ALICE, "10.0.0.1:80").depends_on_agent
    assert not verdict(rules, "10.0.0.1:80").denied
    assert verdict(rules, "10.0.0.1:80", agent="other").denied


def test_the_address_of_a_name_is_left_to_an_agent_that_checks_it() -> None:
    rules = policy(Rule(action="deny", cidr=("10.9.0.0/16",)), Rule(action="allow"))
    left = verdict(rules, "name.example:80")
    assert not left.decided
    assert left.clauses[0].label == "rule 1"
    cannot = verdict(rules, "name.example:80", checks=False)
    assert cannot.denied
    assert cannot.label == "rule 1: depends on the address, which the agent cannot check"


def test_a_name_that_is_allowed_by_name_goes_through_any_agent() -> None:
    rules = policy(Rule(action="allow", host=("*.example",)), Rule(action="deny"))
    assert not verdict(rules, "name.example:80", checks=False).denied
    assert verdict(rules, "name.other:80", checks=False).denied


@pytest.mark.parametrize(
    "authority",
    ["10.9.1.1:80", "[::ffff:10.9.1.1]:80", "[::ffff:a09:101]:80", "10.9.257:80", "0xa090101:80"],
)
def test_a_denied_address_is_denied_in_all_its_forms(authority: str) -> None:
    rules = policy(Rule(action="deny", cidr=("10.9.0.0/16",)), Rule(action="allow"))
    assert verdict(rules, authority, checks=False).denied


@pytest.mark.parametrize("authority", ["0.0.0.0:22", "[::]:22", "127.1:22", "[::ffff:0:0]:22"])
def test_the_loopback_is_denied_in_all_its_forms(authority: str) -> None:
    rules = policy(Rule(action="deny", cidr=("127.0.0.0/8", "::1")), Rule(action="allow"))
    assert verdict(rules, authority, checks=False).denied


@pytest.mark.parametrize("authority", ["a.example", "a.example:ssh", "a.example:", ":22", "a:b:22"])
def test_what_cannot_be_told_is_not_dialled_where_there_are_rules(authority: str) -> None:
    rules = policy(Rule(action="deny", port=(22,)), Rule(action="allow"))
    with pytest.raises(DialError):
        rules.ruling(ALICE, authority)


def test_an_open_server_leaves_odd_destinations_to_the_agent() -> None:
    assert not verdict(policy(open=True), "a.example:ssh", checks=False).denied


def test_more_rules_than_an_agent_takes_deny() -> None:
    many = tuple(f"10.{high}.{low}.0/24" for high in range(10) for low in range(256))
    rules = policy(Rule(action="deny", cidr=many), Rule(action="allow"))
    assert verdict(rules, "name.example:80").denied
    assert not verdict(rules, "11.0.0.1:80").denied


def test_replaced_rules_hold_at_once() -> None:
    rules = policy(Rule(action="deny"))
    assert verdict(rules, "10.0.0.1:80").denied
    rules.replace(PolicyConfig(rules=(Rule(action="allow"),)))
    assert not verdict(rules, "10.0.0.1:80").denied


def test_brackets_around_a_metadata_address_hide_nothing() -> None:
    """Agents of konnectivity get an address as it is, and Go takes IPv4 in brackets."""
    assert verdict(policy(open=True), "[169.254.169.254]:80").denied
    assert verdict(policy(open=True), "[169.254.169.254]:http").denied


@pytest.mark.parametrize("opened", [True, False])
def test_rulings_are_not_kept_of_what_is_too_long_for_a_destination(opened: bool) -> None:
    """A client of gRPC may ask for an address of 4 MiB, as often as it likes."""
    rules = policy(open=True) if opened else policy(Rule(action="allow"))
    with pytest.raises(DialError, match="more than 320 characters"):
        rules.ruling(ALICE, "a" * 400 + ":80")
    assert rules.ruling.cache_info().currsize == 0


def test_a_rule_about_translated_addresses_is_refused() -> None:
    """They are looked at as the IPv4 addresses that they stand for, so it would never fit."""
    with pytest.raises(RuleError, match="write the IPv4 network"):
        policy(Rule(action="deny", cidr=("64:ff9b::/96",)))


def test_verdicts_are_few_however_many_agents_there_are() -> None:
    """Else 4,096 names that somebody asks for would cost an entry for each agent."""
    rules = policy(Rule(action="deny", agent=("b*",), cidr=("10.0.0.0/8",)), Rule(action="allow"))
    ruling = rules.ruling(ALICE, "name.example:80")
    denied = [
        ruling.through(f"{kind}{number}", checks_addresses=checks).denied
        for kind in "ab"
        for number in range(100)
        for checks in (True, False)
    ]
    assert denied == [False, False] * 100 + [False, True] * 100
    assert len(ruling._verdicts) == 4


def test_a_ruling_goes_by_the_rules_that_it_was_made_of() -> None:
    rules = policy(Rule(action="allow", agent=("home",)))
    old = rules.ruling(ALICE, "10.0.0.1:80")
    rules.replace(PolicyConfig(rules=(Rule(action="deny"), Rule(action="allow", agent=("home",)))))
    assert not old.through("home", checks_addresses=True).denied, "by the rules that were"
    assert verdict(rules, "10.0.0.1:80").denied
