"""Rules, as far as they are worth a word: where there are none, or where they deny nothing."""

from collections.abc import Iterator

from tunneld.config import AgentConfig, DestinationPolicy, Policy, ServerConfig
from tunneld.doctor.finding import Finding, noted, passed, warned


def check_policy(config: ServerConfig | AgentConfig) -> Iterator[Finding]:
    """What a role's policy comes to."""
    policy: Policy | DestinationPolicy = config.policy
    rules = len(policy.rules)
    if policy.mode == "shadow":
        text = f"{rules} rules, in shadow mode: they deny nothing"
        advice = 'see what would be denied: tunnelctl policy explain; then mode = "enforce"'
        yield warned("policy", text, advice)
    elif rules:
        yield passed("policy", f"{rules} rules; what none of them allows is denied")
    elif policy.open:
        whom = "every client reaches" if isinstance(config, ServerConfig) else "servers reach"
        yield noted("policy", f"open: {whom} every destination")
    else:
        yield noted("policy", "no rules, so nothing is allowed")
    if policy.metadata == "allow":
        text = "addresses of clouds' metadata, which hold credentials, may be reached"
        yield warned("policy", text, 'metadata = "deny", and a rule for those who need it')
