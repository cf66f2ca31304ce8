"""The walkthrough of the tutorial, command by command."""

import json
import re
import socket
import time
from collections.abc import Callable

import pytest

from tests.conftest import need
from tests.e2e.conftest import PRIVATE, SERVER, Daemon, Lab, running

pytestmark = pytest.mark.e2e


def until(condition: Callable[[], bool], what: str, seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        time.sleep(0.05)


def test_status_shows_the_daemon_and_its_roles(lab: Lab) -> None:
    status = json.loads(lab.daemon.tunneld("status", "-o", "json").stdout)
    assert status["pid"] > 0
    assert status["since"] > 0
    assert status["version"]
    states = {role["name"].rsplit("/")[-1]: role["state"] for role in status["roles"]}
    assert set(states.values()) == {"ready"}
    assert len(states) == 6


def test_the_lab_has_the_shape_it_claims(lab: Lab) -> None:
    done = lab.daemon.ctl("ns", "check", "--name", lab.name, "-o", "json")
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(rows) >= 4
    assert all(row["ok"] for row in rows), rows


def test_grpc_greets(lab: Lab) -> None:
    assert lab.daemon.ctl("grpc", f"{PRIVATE}:4001", "--name", "demo").stdout == b"Hello demo!\n"


@pytest.mark.parametrize("host", [PRIVATE, "local-server.svc"])
def test_http_is_ok(lab: Lab, host: str) -> None:
    assert b"Everything is ok" in lab.daemon.ctl("http", f"http://{host}:8080/ok").stdout


def test_a_private_name_is_unknown_in_public(lab: Lab) -> None:
    lookup = "import socket; print(socket.gethostbyname('local-server.svc'))"
    inside = lab.exec("private", "python3", "-c", lookup)
    outside = lab.exec("public", "python3", "-c", lookup, check=False)
    assert inside.stdout.strip() == PRIVATE.encode()
    assert outside.returncode != 0


def test_dial_is_a_byte_pipe_with_half_close(lab: Lab) -> None:
    octets = bytes(range(256)) * 40_000
    assert lab.daemon.ctl("dial", f"{PRIVATE}:7", stdin=octets).stdout == octets


def test_the_agent_and_its_connections_are_listed(lab: Lab) -> None:
    (agent,) = lab.daemon.json("agents")["agents"]
    assert agent["id"] == "demo"
    assert agent["state"] == "ready"
    assert lab.daemon.json("conns")["conns"] == []


@pytest.mark.parametrize("short", ["server", "agent", "grpc", "http", "echo", "dns"])
def test_each_role_stops_and_starts_by_hand(lab: Lab, short: str) -> None:
    names = {r["name"].rsplit("/")[-1]: r["name"] for r in lab.daemon.json("role", "list")["roles"]}
    name = names[short]

    def works() -> bool:
        checks = {
            "http": ["http", f"http://{PRIVATE}:8080/ok"],
            "echo": ["dial", f"{PRIVATE}:7"],
            "dns": ["http", "http://local-server.svc:8080/ok"],
        }
        argv = checks.get(short, ["grpc", f"{PRIVATE}:4001"])
        return lab.daemon.ctl(*argv, check=False).returncode == 0

    assert works()
    lab.daemon.ctl("role", "stop", name)
    assert not works()
    lab.daemon.ctl("role", "start", name)
    until(works, f"{name} works again")


def test_forward_carries_connections_to_a_local_port(lab: Lab) -> None:
    forward = lab.daemon.ctl_argv("forward", "127.0.0.1:0", f"{PRIVATE}:7")
    with running(lab.daemon.popen(forward), b"127.0.0.1:") as line:
        found = re.search(rb"127\.0\.0\.1:(\d+)", line)
        assert found
        with socket.create_connection(("127.0.0.1", int(found[1])), timeout=10) as sock:
            sock.sendall(b"through the tunnel")
            sock.shutdown(socket.SHUT_WR)
            received = b""
            while more := sock.recv(4096):
                received += more
    assert received == b"through the tunnel"


def test_a_remote_server_needs_no_daemon(lab: Lab) -> None:
    frontend = lab.pki / "frontend"
    done = lab.exec(
        "public",
        *lab.daemon.ctl_argv("grpc", f"{PRIVATE}:4001", "--name", "remote"),
        "--proxy",
        f"{SERVER}:8090",
        "--cert",
        str(frontend / "client.crt"),
        "--key",
        str(frontend / "client.key"),
        "--ca",
        str(frontend / "ca.crt"),
    )
    assert done.stdout == b"Hello remote!\n"


def test_a_second_ns_up_changes_nothing(lab: Lab) -> None:
    before = lab.daemon.json("ns", "list")
    lab.up()
    assert lab.daemon.json("ns", "list") == before


def test_down_leaves_nothing(daemon: Daemon) -> None:
    daemon.start()
    name = f"down{daemon.pid}"
    done = daemon.ctl("ns", "up", "--name", name, check=False)
    need(b"forbidden" not in done.stderr, "this kernel forbids namespaces to us")
    assert done.returncode == 0, done.stderr.decode()
    daemon.ctl("ns", "down", "--name", name)
    assert daemon.json("ns", "list")["labs"] == []
    assert not (daemon.state / "labs" / name).exists()
    daemon.stop()
    assert not daemon.control.exists()
