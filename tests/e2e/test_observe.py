"""What operators see and do, with real daemons: lists, kills, events, audit, metrics, health."""

import http.client
import json
import os
import signal
import socket
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.conftest import PRIVATE, Daemon, Lab
from tests.e2e.test_walkthrough import until
from tunneld.pki import Pki

pytestmark = pytest.mark.e2e

CONFIG = """\
[log]
format = "json"

[admin]
listen = "unix:admin.sock"

[[role]]
kind = "server"
name = "edge"
processes = 2
frontends = [{ listen = "unix:edge.sock" }]
tunnel = { listen = "127.0.0.1:TUNNEL", cert = "pki/agent/server.crt", \
key = "pki/agent/server.key", client-ca = "pki/agent/ca.crt" }
policy = { open = true }
audit = "edge.audit"

[[role]]
kind = "agent"
name = "home"
server = "127.0.0.1:TUNNEL"
cert = "pki/agent/agent.crt"
key = "pki/agent/agent.key"
ca = "pki/agent/ca.crt"
policy = { open = true }
audit = "home.audit"

[[role]]
kind = "echo"
name = "echo"
listen = "127.0.0.1:0"
"""


class Site:
    """A server of two processes, an agent and an endpoint, in one daemon."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.daemon = Daemon(directory)
        Pki(directory / "pki").init(["127.0.0.1"], "home")
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        file = directory / "tunneld.toml"
        file.write_text(CONFIG.replace("TUNNEL", str(port)))
        self.daemon.tunneld("start", "--config", str(file))
        until(lambda: len(self.agents()) == 2, "the agent to have both tunnels")
        roles = {role["name"]: role for role in self.daemon.json("status")["roles"]}
        self.echo = roles["echo"]["addresses"][0]

    def agents(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self.daemon.json("agents")["agents"]
        return rows

    def conns(self, *argv: str) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self.daemon.json("conns", *argv)["conns"]
        return rows

    def audit(self, role: str) -> list[dict[str, Any]]:
        lines = (self.directory / f"{role}.audit").read_text().splitlines()
        return [json.loads(line) for line in lines]

    def connect(self) -> socket.socket:
        """To the endpoint, through the tunnel."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.settimeout(20)
        sock.connect(str(self.directory / "edge.sock"))
        sock.sendall(f"CONNECT {self.echo} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert sock.recv(1000).startswith(b"HTTP/1.1 200")
        sock.sendall(b"hello")
        assert sock.recv(100) == b"hello"
        return sock

    def page(self, path: str) -> tuple[int, str]:
        """Of the admin listener."""
        client = http.client.HTTPConnection("localhost", timeout=20)
        client.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        client.sock.settimeout(20)
        client.sock.connect(str(self.directory / "admin.sock"))
        client.request("GET", path)
        response = client.getresponse()
        body = response.read().decode()
        client.close()
        return response.status, body


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    yield made
    made.daemon.stop()


def test_a_connection_is_seen_killed_and_told_of(site: Site) -> None:
    with site.connect() as sock:
        rows = site.conns("--role", "edge", "--destination", "127.0.0.*")
        (row,) = rows
        user = "user:root" if os.getuid() == 0 else row["identity"]
        assert (row["identity"], row["dialled"], row["agent"]) == (user, site.echo, "home")
        assert {each["id"] for each in site.conns()} == {row["id"]}
        done = site.daemon.json("kill", "conn", row["id"], "--reason", "tests")
        assert done["killed"] == [{"role": "edge", "name": row["id"]}]
        assert sock.recv(100) == b""  # a UNIX socket knows no reset
        until(lambda: not site.conns(), "the connection to be gone")
    for role, ended in (("edge", "killed"), ("home", "reset")):
        until(lambda role=role: bool(site.audit(role)), f"the audit of {role}")  # type: ignore[misc]
        (line,) = site.audit(role)
        assert (line["dial"], line["ended"]) == (row["id"], ended)
        assert (line["sent"], line["received"], line["dialled"]) == (5, 5, site.echo)
    assert site.audit("edge")[0]["reason"] == "killed: tests"
    assert stat.S_IMODE((site.directory / "edge.audit").stat().st_mode) == 0o600
    done = site.daemon.ctl("kill", "conn", row["id"], check=False)
    assert (done.returncode, b"not_found" in done.stderr) == (4, True)
    events = site.daemon.ctl("events", "--event", "connection.*", "-o", "json").stdout
    (event,) = [json.loads(line) for line in events.splitlines()]
    assert (event["event"], event["fields"]["dial"]) == ("connection.killed", row["id"])


def test_a_killed_agent_comes_back_and_events_are_followed(site: Site) -> None:
    before = {agent["peer"] for agent in site.agents()}
    argv = site.daemon.ctl_argv("events", "--follow", "--event", "agent.*", "-o", "json")
    with subprocess.Popen(argv, env=site.daemon.environment, stdout=subprocess.PIPE) as follower:
        assert follower.stdout is not None
        told = [json.loads(follower.stdout.readline())["event"] for _ in range(2)]
        assert told == ["agent.connected"] * 2
        assert b"may come back" in site.daemon.ctl("kill", "agent", "home").stdout
        told = []
        while told.count("agent.connected") < 2:
            told.append(json.loads(follower.stdout.readline())["event"])
        assert told.count("agent.killed") == told.count("agent.lost") == 2
        follower.send_signal(signal.SIGINT)
    until(lambda: not before & {agent["peer"] for agent in site.agents()}, "new tunnels")


def test_metrics_of_all_processes_are_told_over_http_and_the_control_socket(site: Site) -> None:
    with site.connect():
        status, text = site.page("/metrics")
    assert status == 200
    found = {family.name: family for family in text_string_to_metric_families(text)}
    agents = {s.labels["process"]: s.value for s in found["tunneld_agents"].samples}
    assert agents == {"1": 1, "2": 1}
    processes = {s.labels["process"] for s in found["tunneld_open_fds"].samples}
    assert processes == {"tunneld", "edge/1", "edge/2"}
    assert sum(s.value for s in found["tunneld_dial_seconds"].samples if "count" in s.name) == 2
    assert "konnectivity_network_proxy_server_grpc_connections" in found
    printed = site.daemon.ctl("metrics").stdout.decode()
    assert {f.name for f in text_string_to_metric_families(printed)} == set(found)


def test_health_is_that_of_processes_listeners_and_tunnels(site: Site) -> None:
    assert site.page("/healthz") == (200, "ok\n")
    status, text = site.page("/readyz?verbose")
    assert status == 200
    assert "[+] edge/2: agents: 1 of 1 answer" in text
    assert site.daemon.ctl("health").returncode == 0
    pids = [int(pid) for pid in _children_of(site.daemon.pid)]
    os.kill(pids[0], signal.SIGSTOP)
    try:
        status, text = site.page("/healthz")
        assert (status, "[-] edge" in text) == (503, True)
    finally:
        os.kill(pids[0], signal.SIGCONT)
    until(lambda: site.page("/healthz")[0] == 200, "the process to go on")
    site.daemon.ctl("role", "stop", "edge")
    status, text = site.page("/readyz")
    assert (status, "[-] home" in text) == (503, True)


def _children_of(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def test_the_log_is_json_with_the_dial_s_id(site: Site) -> None:
    done = site.daemon.ctl("dial", "127.0.0.1:1", check=False)
    assert done.returncode != 0
    log = (site.daemon.state / "tunneld.log").read_text().splitlines()
    lines = [json.loads(line) for line in log]
    failed = [line for line in lines if line.get("event") == "dial.failed"]
    assert {line["role"] for line in failed} == {"edge", "home"}
    assert len({line["dial"] for line in failed}) == 1
    (audited,) = site.audit("home")
    assert (audited["dial"], audited["code"]) == (failed[0]["dial"], "refused")


def test_an_audit_goes_on_in_a_new_file_when_its_own_was_moved(site: Site) -> None:
    site.connect().close()
    path = site.directory / "edge.audit"
    until(lambda: bool(path.read_text()), "the first line")
    path.rename(path.with_suffix(".1"))
    site.connect().close()
    until(lambda: path.exists() and bool(path.read_text()), "the second line")
    assert len(path.with_suffix(".1").read_text().splitlines()) == 1


def test_top_prints_text_into_a_pipe(site: Site) -> None:
    with site.connect():
        lines = site.daemon.ctl("top", "-n", "2", "-d", "0.2").stdout.decode().splitlines()
    summaries = [line for line in lines if " agents, " in line]
    assert len(summaries) == 2
    assert summaries[0].startswith("2 agents, 2 connections, 0 stalled")


def test_workers_in_namespaces_are_seen_as_well(lab: Lab) -> None:
    (agent,) = lab.daemon.json("agents")["agents"]
    assert (agent["identity"], agent["protocol"]) == ("cert:demo", "rh2")
    assert lab.daemon.ctl("health").returncode == 0
    argv = lab.daemon.ctl_argv("dial", f"{PRIVATE}:7")
    with subprocess.Popen(
        argv, env=lab.daemon.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as dial:
        until(lambda: len(lab.daemon.json("conns")["conns"]) == 2, "both ends of a connection")
        server, agent_row = sorted(lab.daemon.json("conns")["conns"], key=lambda c: -len(c["role"]))
        assert server["id"] == agent_row["id"]
        assert server["dialled"] == f"{PRIVATE}:7"
        lab.daemon.ctl("kill", "client", "control")
        assert dial.wait(20) != 0
    text = lab.daemon.ctl("metrics").stdout.decode()
    found = {family.name: family for family in text_string_to_metric_families(text)}
    labels = [s.labels for s in found["tunneld_connections"].samples]
    assert {each["namespace"] for each in labels} == {
        lab.namespace("public"),
        lab.namespace("private"),
    }
