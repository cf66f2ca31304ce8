import json
import time

from ctl.messages import ControlError, Message
from tests.ctl.conftest import Run
from tests.ctl.fakedaemon import Answer, FakeDaemon, Stream

SERVER = {
    "name": "server",
    "kind": "server",
    "namespace": "public",
    "lab": "demo",
    "state": "ready",
    "reason": "",
    "since": time.time(),
    "restarts": 0,
    "pid": 12,
    "addresses": ["2.2.2.2:8090", "2.2.2.2:8091"],
}
AGENT = {**SERVER, "name": "agent", "kind": "agent", "state": "backoff", "reason": "refused"}


def test_status_shows_the_daemon_and_its_roles(daemon: FakeDaemon, run: Run) -> None:
    daemon.answers["status"] = {
        "pid": 7,
        "version": "0.1.0",
        "since": time.time(),
        "control": "/run/c.sock",
        "state": "/var/lib/t",
        "roles": [SERVER],
    }
    done = run("status")
    assert done.code == 0
    lines = done.stdout.splitlines()
    assert lines[0].startswith("tunneld 0.1.0, pid 7, up ")
    assert "control socket   /run/c.sock" in lines
    assert lines[-1].startswith("server  server  public")
    assert "2.2.2.2:8090 2.2.2.2:8091" in lines[-1]


def test_status_says_what_expires_and_what_is_not_in_use(daemon: FakeDaemon, run: Run) -> None:
    def certificate(file: str, kind: str, days: float) -> dict[str, object]:
        not_after = time.time() + days * 86400 + 60
        return {"role": "edge", "file": file, "kind": kind, "not_after": not_after}

    daemon.answers["status"] = {
        "roles": [],
        "not_reloaded": ["cannot use new.crt"],
        "certificates": [
            certificate("/far.crt", "cert", 31),
            certificate("/near.crt", "cert", 29),
            certificate("/late.crt", "ca", -2),
            certificate("/good.crl", "crl", 8),
            certificate("/old.crl", "crl", 6),
        ],
    }
    lines = run("status").stdout.splitlines()
    assert lines[3:] == [
        "/near.crt of role edge expires in 29 days",
        "/late.crt of role edge expired 2 days ago",
        "/old.crl of role edge expires in 6 days",
        "",
        "cannot use new.crt",
    ]


def test_status_as_json_is_the_daemon_s_answer_with_a_version(daemon: FakeDaemon, run: Run) -> None:
    daemon.answers["status"] = {"pid": 7, "version": "0.1.0", "roles": []}
    done = run("status", "-o", "json")
    assert json.loads(done.stdout)["pid"] == 7


def test_roles_are_listed(daemon: FakeDaemon, run: Run) -> None:
    daemon.answers["role.list"] = {"roles": [SERVER, AGENT]}
    lines = run("role", "list").stdout.splitlines()
    assert lines[0].split()[:4] == ["NAME", "KIND", "NAMESPACE", "STATE"]
    assert lines[2].split()[:4] == ["agent", "agent", "public", "backoff"]
    assert lines[2].endswith("refused")
    assert json.loads(run("role", "list", "-o", "json").stdout)["roles"] == [SERVER, AGENT]


def test_roles_are_stopped_and_started_by_name(daemon: FakeDaemon, run: Run) -> None:
    def change(params: Message) -> Answer:
        return {**SERVER, "name": params["name"], "state": "stopped"}

    daemon.answers["role.stop"] = change
    daemon.answers["role.start"] = change
    daemon.answers["role.restart"] = change
    assert "stopped" in run("role", "stop", "a", "b").stdout
    assert json.loads(run("role", "start", "a", "-o", "json").stdout)["name"] == "a"
    assert run("role", "restart", "c").code == 0
    assert daemon.calls == [
        ("role.stop", {"name": "a"}),
        ("role.stop", {"name": "b"}),
        ("role.start", {"name": "a"}),
        ("role.restart", {"name": "c"}),
    ]


def test_an_unknown_role_exits_with_4(daemon: FakeDaemon, run: Run) -> None:
    daemon.answers["role.stop"] = ControlError("not_found", "no role x", "see: role list")
    assert run("role", "stop", "x").code == 4


def test_logs_are_a_line_or_an_object_each(daemon: FakeDaemon, run: Run) -> None:
    entry = {
        "time": 1_700_000_000.25,
        "level": "info",
        "event": "agent connected",
        "fields": {"agent": "demo", "peer": "\x1b[31m"},
    }
    daemon.answers["role.logs"] = Stream([entry, entry])
    done = run("role", "logs", "server", "-n", "5", "-f")
    assert daemon.calls == [("role.logs", {"name": "server", "lines": 5, "follow": True})]
    lines = done.stdout.splitlines()
    assert len(lines) == 2
    assert ".250 info    agent connected agent=demo peer=" in lines[0]
    assert "\x1b" not in done.stdout
    items = [
        json.loads(line) for line in run("role", "logs", "s", "-o", "json").stdout.splitlines()
    ]
    assert items == [{"version": 1, **entry}] * 2


def test_agents_are_listed(daemon: FakeDaemon, run: Run) -> None:
    agent = {
        "server": "server",
        "id": "demo",
        "identity": "cert:demo",
        "protocol": "rh2",
        "pending": 1,
        "rate_sent": 1024.0,
        "rate_received": 512.0,
        "identifiers": {"ipv4": ["10.0.0.1", "10.0.0.2"], "default-route": ["true"]},
        "peer": "10.10.10.2:4242",
        "version": "0.1.0",
        "since": time.time(),
        "rtt_ms": 1.25,
        "conns": 3,
        "state": "ready",
    }
    daemon.answers["agents"] = {"agents": [agent, {**agent, "id": "new", "rtt_ms": None}]}
    lines = run("agents").stdout.splitlines()
    begin = ["demo", "server", "cert:demo", "10.10.10.2:4242", "rh2", "ready"]
    assert lines[1].split()[:6] == begin
    assert "1.5 KiB/s" in lines[1]
    assert "1.2ms" in lines[1]
    assert lines[1].endswith("ipv4=10.0.0.1,10.0.0.2 default-route=true")
    assert json.loads(run("agents", "-o", "json").stdout)["agents"][0] == agent


def test_conns_are_listed(daemon: FakeDaemon, run: Run) -> None:
    conn = {
        "id": "abcde-5",
        "role": "server",
        "identity": "control",
        "client": "local",
        "dialled": "",
        "rate_sent": 0.0,
        "rate_received": 0.0,
        "queue": 2048,
        "stalled_by": "client",
        "stalled_seconds": 3.2,
        "rtt_ms": 4.5,
        "destination": "192.168.1.2:7",
        "agent": "demo",
        "state": "open",
        "since": time.time(),
        "bytes_sent": 1536,
        "bytes_received": 0,
    }
    daemon.answers["conns"] = {"conns": [conn]}
    line = run("conns").stdout.splitlines()[1]
    begin = ["abcde-5", "server", "control", "local", "192.168.1.2:7", "-", "demo"]
    assert line.split()[:7] == begin
    assert "1.5 KiB" in line
    assert line.endswith("2.0 KiB  client 3s  4.5ms")
    assert json.loads(run("conns", "-o", "json").stdout)["conns"] == [conn]


def test_a_daemon_that_sends_no_list_is_an_internal_error(daemon: FakeDaemon, run: Run) -> None:
    daemon.answers["conns"] = {"conns": "none"}
    done = run("conns")
    assert done.code == 1
    assert "error[internal]" in done.stderr
