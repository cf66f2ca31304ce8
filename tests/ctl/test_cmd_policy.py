import json

from ctl.messages import Message
from tests.ctl.conftest import Run
from tests.ctl.fakedaemon import FakeDaemon

ALLOWED: Message = {
    "role": "edge",
    "client": "cert:alice",
    "destination": "web:80",
    "is_name": True,
    "mode": "enforce",
    "depends_on_agent": False,
    "decision": "allow",
    "rule": "rule 2",
    "clauses": [{"text": "allow *", "rule": "rule 2"}],
    "agents": [],
}


def test_a_verdict_names_its_rule(daemon: FakeDaemon, run: Run) -> None:
    daemon.answers["policy.test"] = ALLOWED
    done = run("policy", "test", "--as", "cert:alice", "web:80", "--address", "10.0.0.1")
    assert (done.code, done.stdout) == (0, "cert:alice → web:80: allow, rule 2\n")
    assert daemon.calls[-1][1] == {
        "host": "web",
        "port": 80,
        "client": "cert:alice",
        "agent": None,
        "address": "10.0.0.1",
        "role": None,
    }


def test_a_denial_has_an_exit_code(daemon: FakeDaemon, run: Run) -> None:
    daemon.answers["policy.test"] = {**ALLOWED, "decision": "deny"}
    assert run("policy", "test", "--as", "cert:alice", "web:80").code == 5
    assert run("policy", "test", "--as", "cert:alice", "web:80", "-o", "json").code == 5
    daemon.answers["policy.test"] = {**ALLOWED, "decision": "deny", "mode": "shadow"}
    done = run("policy", "test", "--as", "cert:alice", "web:80")
    assert done.code == 0
    assert "shadow mode" in done.stderr


def test_what_depends_on_the_address_is_shown(daemon: FakeDaemon, run: Run) -> None:
    clauses = [
        {"text": "deny 10.9.0.0/16", "rule": "rule 1"},
        {"text": "allow *", "rule": "rule 2"},
    ]
    daemon.answers["policy.test"] = {**ALLOWED, "decision": "depends", "clauses": clauses}
    assert run("policy", "test", "--as", "cert:alice", "web:80").stdout.splitlines() == [
        "cert:alice → web:80: depends on the address",
        "  deny 10.9.0.0/16  (rule 1)",
        "  allow *  (rule 2)",
    ]


def test_what_depends_on_the_agent_is_shown_for_each(daemon: FakeDaemon, run: Run) -> None:
    agents = [
        {"agent": "home", "decision": "allow", "rule": "rule 1", "clauses": []},
        {"agent": "away", "decision": "deny", "rule": "no rule allows it", "clauses": []},
    ]
    daemon.answers["policy.test"] = {**ALLOWED, "depends_on_agent": True, "agents": agents}
    assert run("policy", "test", "--as", "cert:alice", "web:80").stdout.splitlines() == [
        "cert:alice → web:80 through home: allow, rule 1",
        "cert:alice → web:80 through away: deny, no rule allows it",
    ]


def test_who_asks_must_be_said(daemon: FakeDaemon, run: Run) -> None:
    assert run("policy", "test", "web:80").code == 2


def test_rules_are_shown_in_order(daemon: FakeDaemon, run: Run) -> None:
    policy = {
        "role": "edge",
        "open": False,
        "mode": "shadow",
        "rules": [
            {
                "rule": "no mail",
                "action": "deny",
                "client": [],
                "agent": [],
                "host": [],
                "cidr": ["10.0.0.0/8"],
                "port": [25, "8000-8099"],
                "allowed": 0,
                "denied": 3,
                "would_deny": 1,
            },
            {"rule": "no rule allows it", "action": "deny", "allowed": 0, "denied": 0},
        ],
        "agents": [
            {
                "identity": ["cert:home"],
                "id": [],
                "host": ["*.home"],
                "cidr": [],
                "default_route": True,
            }
        ],
    }
    daemon.answers["policy.show"] = {"policies": [policy]}
    lines = run("policy", "explain").stdout.splitlines()
    assert lines[0] == "role edge, shadow mode: denies nothing"
    assert lines[2].split("  ")[0] == "no mail"
    assert "cidr 10.0.0.0/8; port 25, 8000-8099" in lines[2]
    assert lines[3].startswith("no rule allows it")
    assert lines[5].split() == ["cert:home", "its", "own", "host", "*.home;", "default-route"]
    assert json.loads(run("policy", "explain", "-o", "json").stdout)["mode"] == "shadow"
