"""Mistakes in the policies of servers and agents that types alone can't tell."""

from collections.abc import Iterable, Iterator

from tunneld.config import AgentGrant, DestinationPolicy, DestinationRule, Policy, Rule
from tunneld.rules import Rule as Compiled
from tunneld.rules import RuleError, check_host, check_network
from tunneld.schema import Problem, join

_PROOFS = ("cert:", "user:", "secret:", "forward:")
_NAMES = ("*", "control", "anonymous")


def policy_problems(policy: Policy | DestinationPolicy, path: str) -> Iterator[Problem]:
    """All mistakes of one policy."""
    if not policy.rules and not policy.open:
        yield Problem(
            path,
            "has no rule, so nothing is allowed: write rules, or `open = true` to allow everything",
        )
    if policy.rules and policy.open:
        yield Problem(
            join(path, "open"), "is for a policy without rules: remove it, or write a last rule"
        )
    for index, rule in enumerate(policy.rules):
        yield from _rule_problems(rule, f"{path}.rules[{index}]")
    for index, grant in enumerate(policy.agents if isinstance(policy, Policy) else ()):
        yield from _grant_problems(grant, f"{path}.agents[{index}]")


def _rule_problems(rule: DestinationRule, path: str) -> Iterator[Problem]:
    try:
        Compiled(rule, 1)
    except RuleError as exc:
        yield Problem(join(path, exc.key), str(exc))
    if isinstance(rule, Rule):
        yield from client_problems(rule.client, join(path, "client"))


def _grant_problems(grant: AgentGrant, path: str) -> Iterator[Problem]:
    if not grant.identity:
        yield Problem(join(path, "identity"), "is empty, expected whom it is about: cert:NAME")
    yield from _identity_problems(grant.identity, join(path, "identity"), ("cert:", "secret:", "*"))
    for key, values, check in (
        ("host", grant.host, check_host),
        ("cidr", grant.cidr, check_network),
    ):
        for value in values:
            try:
                check(value)
            except RuleError as exc:
                yield Problem(join(path, key), str(exc))


def client_problems(patterns: Iterable[str], path: str) -> Iterator[Problem]:
    """Mistakes in patterns of clients' names."""
    yield from _identity_problems(patterns, path, (*_PROOFS, *_NAMES))


def _identity_problems(
    patterns: Iterable[str], path: str, expected: tuple[str, ...]
) -> Iterator[Problem]:
    for pattern in patterns:
        named = pattern in expected or pattern.startswith(tuple(_PROOFS))
        if not named or (pattern.startswith(_PROOFS) and not pattern.startswith(expected)):
            shown = ", ".join(f"{each}NAME" if each.endswith(":") else each for each in expected)
            yield Problem(path, f"{pattern!r} says not how that is proved, expected {shown}")
