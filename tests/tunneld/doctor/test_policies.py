import msgspec
import pytest

from tests.tunneld.doctor.samples import verdicts
from tunneld.config import AgentConfig, DestinationPolicy, DestinationRule
from tunneld.doctor.policies import check_policy

AGENT = AgentConfig(name="home", server="edge:1", ca="/ca")
RULES = (DestinationRule(action="allow", port=(443,)),)


@pytest.mark.parametrize(
    ("policy", "found"),
    [
        (DestinationPolicy(rules=RULES), ["pass"]),
        (DestinationPolicy(open=True), ["info"]),
        (DestinationPolicy(), ["info"]),
        (DestinationPolicy(rules=RULES, mode="shadow"), ["warn"]),
        (DestinationPolicy(rules=RULES, metadata="allow"), ["pass", "warn"]),
    ],
)
def test_what_denies_nothing_is_told(policy: DestinationPolicy, found: list[str]) -> None:
    config = msgspec.structs.replace(AGENT, policy=policy)
    assert [verdict for _, verdict in verdicts(check_policy(config))] == found
