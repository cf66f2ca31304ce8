"""The metrics of a server beyond those that agents have too."""

from collections import Counter

from tunneld.rolemetrics import Metrics
from tunneld.samples import metric
from tunneld.server.policy import Policy
from tunneld.server.registry import Registry
from tunneld.telemetry import ServerTelemetry

_MAX_AGENTS = 1000
"""Agents that have a series of their own."""


def server_metrics(registry: Registry, policy: Policy, telemetry: ServerTelemetry) -> Metrics:
    """Agents, handshakes and rules."""
    states = Counter((tunnel.protocol, tunnel.state) for tunnel in registry.tunnels)
    rtts: dict[str, float] = {}
    for tunnel in registry.tunnels[:_MAX_AGENTS]:
        if tunnel.rtt is not None:
            agent = tunnel.info.agent_id
            rtts[agent] = max(tunnel.rtt, rtts.get(agent, 0.0))
    return [
        metric(
            "tunneld_agents",
            "gauge",
            "Tunnels of agents, by protocol and state.",
            [
                ({"protocol": protocol, "state": state}, count)
                for (protocol, state), count in sorted(states.items())
            ]
            or [({"protocol": "rh2", "state": "ready"}, 0)],
        ),
        metric(
            "tunneld_rtt_seconds",
            "gauge",
            "Round-trip time of an agent's tunnel, of the last PING.",
            [({"agent": agent}, rtt) for agent, rtt in sorted(rtts.items())],
        ),
        metric(
            "tunneld_handshake_failures_total",
            "counter",
            "Connections that ended before they were a client's or an agent's, by why.",
            [
                ({"listener": listener, "reason": reason}, count)
                for (listener, reason), count in sorted(
                    telemetry.tunneld_handshake_failures.items()
                )
            ],
        ),
        metric(
            "tunneld_policy_decisions_total",
            "counter",
            "What rules decided, by rule.",
            [
                ({"rule": rule, "decision": decision.replace(" ", "_")}, count)
                for (rule, decision), count in sorted(policy.decisions.items())
            ],
        ),
    ]
