"""What a server lets its clients reach: rules by client, agent and destination, first match.

The server knows the client, the agent and the name that is asked for. Where a rule asks for the
address of a name, the agent goes by it, on the address that it dials; the server tells it how
(`tunneld.rules`), and looks at what it says it has dialled.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from functools import lru_cache, partial

from tunneld import config as configuration
from tunneld.addresses import IpAddress, written_address
from tunneld.caller import CONTROL
from tunneld.dialing import check_length, host_of, split_authority
from tunneld.rules import (
    MAX_RULES_TEXT,
    METADATA_CLAUSE,
    Clause,
    Rule,
    clauses_of,
    deciding,
    to_text,
)
from tunneld.server.grants import Grants

_KEPT = 4096
"""Rulings and agents that are remembered: clients come again for the same, to the same."""
_OWN = [
    configuration.Rule(
        action="allow", client=(CONTROL.name,), name="the user who runs the daemon may"
    ),
    configuration.Rule(action="allow", client=("forward:*",), name="the forward is configured"),
]
"""Rules behind all others."""
_OPEN = configuration.Rule(action="allow", name="open = true")


class Verdict:
    """What the rules say of a dial through one agent.

    Args:
      clauses: about the address, where that is not known before the agent resolves it; else the one
        that decides.
    """

    __slots__ = ("clauses", "decided", "denied", "label")

    def __init__(self, clauses: tuple[Clause, ...]) -> None:
        self.clauses = clauses
        self.decided = len(clauses) == 1
        self.denied = self.decided and not clauses[0].allow
        """Whether it is denied whatever the address is."""
        self.label = " or ".join(dict.fromkeys(clause.label for clause in clauses))
        """The rule that decides, or those that the address decides between."""

    def __format__(self, _: str) -> str:
        if not self.decided:
            return f"depends on the address: {self.label}"
        return f"{'denied' if self.denied else 'allowed'}: {self.label}"


class Ruling:
    """What the rules say of one client's dial of one destination, through any agent.

    Args:
      rules: those that fit, as far as that is known.
      address: None where a name was asked for.
      about: which rules of the policy are about an agent: a bit for each.
      bits: those of ``rules``.
    """

    __slots__ = ("_verdicts", "about", "address", "bits", "depends_on_agent", "rules")

    def __init__(
        self,
        rules: Sequence[Rule],
        address: IpAddress | None,
        about: Callable[[str], int],
        bits: int,
    ) -> None:
        self.rules = rules
        self.address = address
        self.about = about
        self.bits = bits
        self.depends_on_agent = any(rule.agents.texts for rule in rules) or (
            address is None and any(rule.networks for rule in rules)
        )
        """Whether another agent may be another matter: one that is named, or one that cannot check
        addresses."""
        self._verdicts: dict[tuple[int, bool], Verdict] = {}
        """Few, however many agents there are: the rules that are about them make the difference."""

    def through(self, agent_id: str, *, checks_addresses: bool) -> Verdict:
        """The verdict for one agent.

        Args:
          checks_addresses: whether the agent goes by clauses. One that does not gets no name whose
            address matters, the metadata addresses aside, which are its own business then.
        """
        key = (self.about(agent_id) & self.bits, checks_addresses)
        verdict = self._verdicts.get(key)
        if verdict is None:
            verdict = self._verdicts[key] = self._through(agent_id, checks_addresses)
        return verdict

    def _through(self, agent_id: str, checks_addresses: bool) -> Verdict:
        clauses = clauses_of(rule for rule in self.rules if rule.agents.match(agent_id))
        if self.address is not None:
            return Verdict((deciding(clauses, self.address),))
        if not checks_addresses:
            clauses = tuple(each for each in clauses if each is not METADATA_CLAUSE)
            if len(clauses) > 1:
                labels = ", ".join(each.label for each in clauses[:-1])
                why = f"{labels}: depends on the address, which the agent cannot check"
                return Verdict((Clause(allow=False, networks=(), label=why),))
        if len(to_text(clauses)) > MAX_RULES_TEXT:
            why = f"more rules about addresses than an agent takes, {MAX_RULES_TEXT} characters"
            return Verdict((Clause(allow=False, networks=(), label=why),))
        return Verdict(clauses)


class Policy:
    """The rules as they are now; `replace` changes them for the dials to come."""

    def __init__(self, config: configuration.Policy) -> None:
        self.decisions: Counter[tuple[str, str]] = Counter()
        """How often each rule has decided: by label and what came of it (``allow``, ``deny``,
        ``would deny``)."""
        self.replace(config)

    def replace(self, config: configuration.Policy) -> None:
        """Go by other rules.

        Raises:
          RuleError: one makes no sense; nothing has changed.
        """
        grants = Grants(config.agents)
        is_open = config.open and not config.rules
        metadata = config.metadata == "allow"
        rules = [*([_OPEN] if is_open else config.rules), *_OWN]
        self.rules = [Rule(each, number, metadata=metadata) for number, each in enumerate(rules, 1)]
        self.grants = grants
        self.is_open = is_open
        self.shadow = config.mode == "shadow"
        self.ruling = lru_cache(_KEPT)(self._ruling)
        self._about = lru_cache(_KEPT)(partial(_rules_about, self.rules))

    def counts(self, label: str) -> dict[str, int]:
        """How often a rule has decided, for the control protocol."""
        words = {"allowed": "allow", "denied": "deny", "would_deny": "would deny"}
        return {key: self.decisions[label, word] for key, word in words.items()}

    def _ruling(self, client: str, authority: str) -> Ruling:
        """What the rules say of a dial; remembered under the name ``ruling``.

        Raises:
          DialError: the destination cannot be told.
        """
        check_length(authority)
        if self.is_open:  # the agent may understand more than we do
            host, port = host_of(authority).strip("[]"), 0
        else:
            host, port = split_authority(authority)
        address = written_address(host)
        name = host.rstrip(".") if address is None else None
        fitting = {
            number: rule
            for number, rule in enumerate(self.rules)
            if rule.clients.match(client) and rule.takes(name, port)
        }
        bits = sum(1 << number for number in fitting)
        return Ruling([*fitting.values()], address, self._about, bits)


def _rules_about(rules: Sequence[Rule], agent_id: str) -> int:
    """As `Ruling.about`."""
    return sum(1 << number for number, rule in enumerate(rules) if rule.agents.match(agent_id))


def denial(verdict: Verdict, client: str, authority: str) -> str:
    """Why it is denied, for the client."""
    return f"denied by the server's policy: {client} may not reach {authority} ({verdict.label})"
