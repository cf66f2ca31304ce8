"""`tunnelctl doctor` at both ends of real tunnels: sound ones, and ones with one thing wrong."""

import json
import resource
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import need
from tests.e2e.conftest import Daemon, Lab
from tests.e2e.test_walkthrough import until
from tests.tunneld.doctor.samples import write_pair
from tunneld.certificate import Kind
from tunneld.pki import Pki

pytestmark = pytest.mark.e2e

UNSURE = {"clock"}
"""What depends on the machine alone."""

SERVER = """\
[[role]]
kind = "server"
name = "edge"
frontends = [{{ listen = "127.0.0.1:{front}", cert = "pki/frontend/server.crt", \
key = "pki/frontend/server.key", client-ca = "pki/frontend/ca.crt" }}]
tunnel = {{ listen = "127.0.0.1:{tunnel}", cert = "{cert}", key = "{key}", \
client-ca = "pki/agent/ca.crt" }}
websocket = {{ listen = "127.0.0.1:{web}" }}
policy = {{ open = true }}
"""
AGENT = """\
[[role]]
kind = "agent"
name = "home"
server = "127.0.0.1:{tunnel}"
cert = "pki/agent/agent.crt"
key = "pki/agent/agent.key"
ca = "pki/agent/ca.crt"
policy = {{ open = true }}
"""


def free_ports(number: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    ports = [sock.getsockname()[1] for sock in sockets]
    for sock in sockets:
        sock.close()
    return ports


class Ends:
    """A server's and an agent's configuration in one directory, with certificates."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.pki = directory / "pki"
        Pki(self.pki).init(["127.0.0.1"], "home")
        self.values: dict[str, str | int] = {
            "front": 0,
            "tunnel": 0,
            "web": 0,
            "cert": "pki/agent/server.crt",
            "key": "pki/agent/server.key",
        }

    def start(self, daemon: Daemon) -> None:
        """Start a server; `values` are its ports then."""
        daemon.tunneld("start", "--config", self.write(self.server(), name="edge.toml"))
        (role,) = daemon.json("status")["roles"]
        assert role["state"] == "ready", role
        for name, address in zip(("front", "tunnel", "web"), role["addresses"], strict=True):
            self.values[name] = int(address.rpartition(":")[2])

    def server(self) -> str:
        return SERVER.format(**self.values)

    def agent(self) -> str:
        return AGENT.format(**self.values)

    def write(self, *tables: str, name: str = "tunneld.toml") -> str:
        path = self.directory / name
        path.write_text("\n".join(tables))
        return str(path)


@pytest.fixture
def ends(tmp_path: Path) -> Ends:
    return Ends(tmp_path)


@pytest.fixture
def server(ends: Ends, tmp_path: Path) -> Iterator[Daemon]:
    """A server that runs; `ends` knows its ports."""
    daemon = Daemon(tmp_path / "s")
    ends.start(daemon)
    yield daemon
    daemon.stop()


@pytest.fixture
def host(tmp_path: Path) -> Daemon:
    """Another host, where no daemon runs."""
    return Daemon(tmp_path / "h")


@pytest.fixture
def agent(ends: Ends, server: Daemon, tmp_path: Path) -> Iterator[Daemon]:
    """An agent that is connected to the server."""
    daemon = Daemon(tmp_path / "a")
    daemon.tunneld("start", "--config", ends.write(ends.agent()))
    until(lambda: bool(server.json("agents")["agents"]), "the agent to be connected")
    until(lambda: state_of(daemon) == "ready", "the agent to know it")
    yield daemon
    daemon.stop()


def state_of(daemon: Daemon) -> str:
    return str(daemon.json("status")["roles"][0]["state"])


def examined(
    daemon: Daemon, *argv: str, environ: dict[str, str] | None = None
) -> tuple[dict[tuple[str, str], dict[str, Any]], int]:
    """Findings by whose and what they are; those that are not well win. And the exit code."""
    daemon.environment |= environ or {}
    done = daemon.ctl("doctor", "-o", "json", *argv, check=False)
    assert done.stderr == b""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for line in done.stdout.splitlines():
        each = json.loads(line)
        if each["check"] not in UNSURE:
            key = each["subject"], each["check"]
            if key not in found or found[key]["verdict"] == "pass":
                found[key] = each
    return found, done.returncode


def unwell(found: dict[tuple[str, str], dict[str, Any]]) -> dict[str, str]:
    bad = ("warn", "fail")
    return {check: row["verdict"] for (_, check), row in found.items() if row["verdict"] in bad}


def test_both_ends_of_a_sound_tunnel_are_well(server: Daemon, agent: Daemon) -> None:
    found, code = examined(server)
    assert (unwell(found), code) == ({}, 0)
    for check in ("state", "frontend", "tunnel", "tunnel certificate", "tunnel client-ca"):
        assert found[("edge", check)]["verdict"] == "pass", check
    found, code = examined(agent)
    assert (unwell(found), code) == ({}, 0)
    for check in ("daemon", "control socket", "configuration", "descriptors"):
        assert found[("daemon", check)]["verdict"] == "pass", check
    for check in (
        *("state", "proxy environment", "dns", "tcp", "tls", "alpn", "admission", "clock skew"),
        *("certificate", "certificate chain", "certificate key", "certificate key mode", "ca"),
        *("server chain", "server name", "server certificate"),
    ):
        assert found[("home", check)]["verdict"] == "pass", check


def test_the_tunnel_stands_while_the_doctor_looks(server: Daemon, agent: Daemon) -> None:
    before = server.json("agents")["agents"]
    examined(agent)
    examined(server)
    after = server.json("agents")["agents"]
    assert [each["since"] for each in after] == [each["since"] for each in before]
    assert len(after) == 1


def test_roles_in_namespaces_are_looked_at_inside(lab: Lab) -> None:
    found, _ = examined(lab.daemon)
    agent = f"{lab.name}/agent"
    for check in ("state", "tcp", "tls", "admission", "descriptors"):
        assert found[(agent, check)]["verdict"] == "pass"
    assert found[(f"{lab.name}/server", "tunnel")]["verdict"] == "pass"
    assert "2.2.2.2:8091" in found[(agent, "tcp")]["detail"]


def test_a_file_is_looked_at_without_a_daemon(ends: Ends, server: Daemon, host: Daemon) -> None:
    found, code = examined(host, "--config", ends.write(ends.agent()))
    assert (unwell(found), code) == ({"daemon": "warn"}, 0)
    _, strict = examined(host, "--strict", "--config", ends.write(ends.agent()))
    assert strict == 1


def test_without_a_daemon_or_a_file_there_is_nothing_well(host: Daemon) -> None:
    found, code = examined(host)
    assert (unwell(found), code) == ({"daemon": "fail"}, 1)
    assert found[("daemon", "daemon")]["action"] == "start it with: tunneld start"


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize(
    ("changes", "check", "words"),
    [
        ({"ca.crt": "pki/frontend/ca.crt"}, "server chain", "CN=tunneld agent CA"),
        ({"agent.": "pki/frontend/client."}, "admission", "UNKNOWN_CA"),
        ({"server": "nosuch.invalid:8091"}, "dns", "nosuch.invalid"),
        ({"server": "127.0.0.1:1"}, "tcp", "Connection refused"),
        ({"server": "127.0.0.1:{front}"}, "server chain", "CN=tunneld frontend CA"),
        ({"server-name": "edge.example.org"}, "server name", "expected edge.example.org"),
        ({"http-proxy": "http://127.0.0.1:1"}, "tcp", "127.0.0.1:1: Connection refused"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else None,
)
def test_one_thing_that_is_wrong_with_an_agent_is_what_fails(
    ends: Ends, host: Daemon, changes: dict[str, str], check: str, words: str
) -> None:
    config = ends.write(changed(ends, changes))
    found, code = examined(host, "--config", config)
    assert unwell(found) == {"daemon": "warn", check: "fail"}
    assert words in found[("home", check)]["detail"]
    assert found[("home", check)]["action"]
    assert code == 1


def changed(ends: Ends, changes: dict[str, str]) -> str:
    lines = ends.agent().splitlines()
    for key, value in changes.items():
        value = value.format(**ends.values)
        if key == "ca.crt":
            lines = [f'ca = "{value}"' if line.startswith("ca ") else line for line in lines]
        elif key == "agent.":
            lines = [line.replace("pki/agent/agent.", value) for line in lines]
        else:
            lines = [line for line in lines if not line.startswith(f"{key} ")]
            lines.append(f'{key} = "{value}"')
    return "\n".join(lines)


@pytest.mark.usefixtures("server")
def test_an_agent_s_certificate_that_has_expired_is_found_on_both_ways(
    ends: Ends, host: Daemon
) -> None:
    cert, key = write_pair(ends.pki, ends.directory, days=5, age=6)
    table = ends.agent().replace("pki/agent/agent.crt", cert).replace("pki/agent/agent.key", key)
    found, code = examined(host, "--config", ends.write(table))
    assert unwell(found) == {"daemon": "warn", "certificate": "fail", "admission": "fail"}
    assert "EXPIRED" in found[("home", "admission")]["detail"]
    assert code == 1


def test_a_server_s_certificate_that_has_expired_is_found_at_both_ends(
    ends: Ends, daemon: Daemon, host: Daemon
) -> None:
    cert, key = write_pair(ends.pki, ends.directory, Kind.SERVER, days=5, age=6)
    ends.values |= {"cert": cert, "key": key}
    ends.start(daemon)
    found, code = examined(daemon)
    assert (unwell(found), code) == ({"tunnel certificate": "fail"}, 1)
    found, code = examined(host, "--config", ends.write(ends.agent()))
    expected = {"daemon": "warn", "server chain": "fail", "server certificate": "fail"}
    assert (unwell(found), code) == (expected, 1)


@pytest.mark.usefixtures("server")
def test_the_environment_s_proxy_counts_where_the_agent_heeds_it(ends: Ends, host: Daemon) -> None:
    wrong = {"HTTPS_PROXY": "gopher://127.0.0.1"}
    found, code = examined(host, "--config", ends.write(ends.agent()), environ=wrong)
    assert (unwell(found), code) == ({"daemon": "warn", "proxy environment": "warn"}, 0)
    heeding = changed(ends, {"http-proxy": "environment"})
    found, code = examined(host, "--config", ends.write(heeding), environ=wrong)
    assert (unwell(found), code) == ({"daemon": "warn", "proxy environment": "fail"}, 1)


@pytest.mark.usefixtures("server")
def test_a_daemon_s_own_environment_is_what_counts(ends: Ends, daemon: Daemon) -> None:
    daemon.environment["HTTPS_PROXY"] = "http://127.0.0.1:1"
    daemon.tunneld("start", "--config", ends.write(ends.agent()))
    del daemon.environment["HTTPS_PROXY"]
    found, _ = examined(daemon)
    assert "HTTPS_PROXY set, not used" in found[("home", "proxy environment")]["detail"]


@pytest.mark.usefixtures("server")
def test_the_way_through_a_websocket_is_looked_at_like_any_other(ends: Ends, host: Daemon) -> None:
    table = changed(ends, {"server": "ws://127.0.0.1:{web}/tunnel"})
    found, code = examined(host, "--config", ends.write(table))
    assert (unwell(found), code) == ({"daemon": "warn"}, 0)
    for check in ("way", "tls", "admission", "clock skew"):
        assert found[("home", check)]["verdict"] == "pass"
    wrong = changed(ends, {"server": "ws://127.0.0.1:{web}/other"})
    found, code = examined(host, "--config", ends.write(wrong))
    assert (unwell(found), code) == ({"daemon": "warn", "way": "fail"}, 1)


def test_a_port_that_is_taken_is_told_with_who_has_it(
    ends: Ends, server: Daemon, host: Daemon
) -> None:
    found, code = examined(host, "--config", ends.write(ends.server()))
    wrong = {"daemon": "warn", "frontend": "fail", "tunnel": "fail", "websocket": "fail"}
    assert (unwell(found), code) == (wrong, 1)
    assert f"pid {server.pid} has it" in found[("edge", "tunnel")]["action"]


def test_a_file_with_mistakes_is_a_failure_for_each(ends: Ends, host: Daemon) -> None:
    found, code = examined(host, "--config", ends.write('[[role]]\nkind = "agent"\nnmae = "x"\n'))
    assert unwell(found) == {"daemon": "warn", "configuration": "fail"}
    assert code == 1


def test_a_limit_of_descriptors_that_is_too_low_fails(server: Daemon) -> None:
    pid = server.pid
    soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    need(hard > 200, "a hard limit of more than 200 descriptors")
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (200, hard))
    found, code = examined(server)
    assert (unwell(found), code) == ({"descriptors": "fail"}, 1)
    assert f"process {pid} may open 200 " in found[("daemon", "descriptors")]["detail"]
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))


def test_a_file_that_is_not_in_use_as_it_is_now_is_told(ends: Ends, agent: Daemon) -> None:
    ends.write(ends.agent(), "keepalive = 20.0")
    found, code = examined(agent)
    assert (unwell(found), code) == ({"configuration": "warn"}, 0)
    assert found[("daemon", "configuration")]["action"] == "take it into use: tunnelctl reload"
    ends.write("nonsense")
    found, code = examined(agent)
    assert (unwell(found), code) == ({"configuration": "fail"}, 1)


def test_an_agent_without_a_server_is_in_no_good_state(ends: Ends, daemon: Daemon) -> None:
    ends.values["tunnel"] = 1
    daemon.tunneld("start", "--config", ends.write(ends.agent()))
    found, code = examined(daemon)
    assert unwell(found) == {"state": "fail", "tcp": "fail"}
    assert found[("home", "state")]["action"] == "see: tunnelctl role logs home"
    assert code == 1


def test_the_health_port_of_proxy_server_can_be_looked_at(ends: Ends, host: Daemon) -> None:
    server, agent, admin, health = free_ports(4)
    pki = ends.pki
    argv = [
        *(sys.executable, "-m", "tunneld.dropin.proxy_server"),
        *("--server-bind-address=127.0.0.1", "--agent-bind-address=127.0.0.1"),
        *("--health-bind-address=127.0.0.1", f"--health-port={health}"),
        *(f"--server-port={server}", f"--agent-port={agent}", f"--admin-port={admin}"),
        *(f"--server-ca-cert={pki}/frontend/ca.crt", f"--server-cert={pki}/frontend/server.crt"),
        *(f"--server-key={pki}/frontend/server.key", f"--cluster-ca-cert={pki}/agent/ca.crt"),
        *(f"--cluster-cert={pki}/agent/server.crt", f"--cluster-key={pki}/agent/server.key"),
        "--mode=http-connect",
    ]
    with subprocess.Popen(argv, stderr=subprocess.PIPE) as program:
        try:
            assert program.stderr is not None
            assert any(b"health" in line.lower() for line in program.stderr)
            found, _ = examined(host, "--health", f"127.0.0.1:{health}")
        finally:
            program.terminate()
    of = f"127.0.0.1:{health}"
    assert found[(of, "healthz")]["verdict"] == "pass"
    assert found[(of, "readyz")]["verdict"] == "warn"  # it has no agent yet
    assert found[(of, "clock skew")]["verdict"] == "pass"


def test_the_table_is_for_people(server: Daemon) -> None:
    lines = server.ctl("doctor").stdout.decode().splitlines()
    assert lines[0].split() == ["VERDICT", "OF", "CHECK", "FOUND"]
    assert lines[-1].endswith("0 fail")
