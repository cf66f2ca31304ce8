"""Real daemons as a service manager starts them: with its sockets, and told of what they do.

The manager is this process; where the machine has systemd's own programs, these too.
"""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from tests.conftest import need
from tests.tunneld.test_daemon import TIMEOUT, Site, until

EXECUTE = """
import os, sys
count = int(sys.argv[1])
for number in range(count):
    os.dup2(int(sys.argv[2 + number]), 700 + number)
for number in range(count):
    os.dup2(700 + number, 3 + number)
os.environ["LISTEN_PID"] = os.environ["WATCHDOG_PID"] = str(os.getpid())
os.execv(sys.executable, [sys.executable, "-m", "tunneld", *sys.argv[2 + count:]])
"""
"""Puts sockets where the protocol wants them, then becomes the daemon."""


class Manager:
    """Has a socket to be told at, and starts one daemon."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notify.bind(str(site.directory / "notify"))
        self.notify.settimeout(TIMEOUT)
        self.heard: list[str] = []
        self.process: subprocess.Popen[str] | None = None

    def start(
        self,
        config: str,
        sockets: Mapping[str, socket.socket] | None = None,
        *,
        watchdog: float = 0,
        options: Sequence[str] = ("--foreground",),
    ) -> subprocess.Popen[str]:
        held = sockets or {}
        numbers = [sock.fileno() for sock in held.values()]
        argv = ["start", "--config", self.site.config(config), *options]
        self.process = subprocess.Popen(
            [sys.executable, "-c", EXECUTE, str(len(numbers)), *map(str, numbers), *argv],
            env={
                **self.site.environment,
                "NOTIFY_SOCKET": self.notify.getsockname(),
                "WATCHDOG_USEC": str(int(watchdog * 1e6)),
                "LISTEN_FDS": str(len(numbers)),
                "LISTEN_FDNAMES": ":".join(held),
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            pass_fds=numbers,
        )
        return self.process

    def hear(self, line: str) -> None:
        """Wait until something is said that begins with ``line``."""
        while not any(each.startswith(line) for each in self.heard):
            try:
                self.heard += self.notify.recv(65536).decode().split("\n")
            except TimeoutError:
                pytest.fail(f"{line} was not said, but {self.heard}; {self.end()}")

    def end(self) -> tuple[int, str]:
        """Terminate the daemon; its exit code and what it logged."""
        assert self.process is not None
        self.process.terminate()
        _, log = self.process.communicate(timeout=TIMEOUT)
        return self.process.returncode, log


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    manager = Manager(Site(tmp_path))
    yield manager
    manager.notify.close()
    if manager.process is not None:
        manager.process.kill()
        with manager.process:
            pass


def echo(name: str, listen: str) -> str:
    return f'[[role]]\nkind = "echo"\nname = "{name}"\nlisten = "{listen}"\n'


def echoes(where: tuple[str, int]) -> bool:
    with socket.create_connection(where, timeout=TIMEOUT) as client:
        client.sendall(b"hello")
        client.shutdown(socket.SHUT_WR)
        return client.makefile("rb").read() == b"hello"


def address(sock: socket.socket) -> str:
    host, port = sock.getsockname()
    return f"{host}:{port}"


@contextmanager
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock


def test_the_manager_is_told_of_the_daemon_s_life(manager: Manager) -> None:
    process = manager.start(echo("one", "127.0.0.1:0") + echo("two", "192.0.2.1:1"), watchdog=30)
    manager.hear("READY=1")
    manager.hear(f"MAINPID={process.pid}")
    manager.hear("STATUS=one: ready, two: backoff (cannot listen on 192.0.2.1:1")
    manager.hear("WATCHDOG=1")
    manager.site.good("stop")
    manager.hear("STOPPING=1")
    manager.hear("EXTEND_TIMEOUT_USEC=")
    assert process.wait(TIMEOUT) == 0


def test_the_status_follows_the_roles(manager: Manager) -> None:
    manager.start(echo("one", "127.0.0.1:0"))
    manager.hear("STATUS=one: ready")
    environment = {**manager.site.environment, "PYTHONPATH": os.getcwd()}  # noqa: PTH109
    stop = [sys.executable, "-m", "ctl", "role", "stop", "one"]
    subprocess.run(stop, env=environment, check=True, capture_output=True)
    manager.hear("STATUS=one: stopped")
    assert manager.end()[0] == 0


def test_a_reload_by_signal_is_told_from_its_begin_to_its_end(manager: Manager) -> None:
    process = manager.start(echo("one", "127.0.0.1:0"))
    manager.hear("STATUS=one: ready")
    manager.heard.clear()
    process.send_signal(signal.SIGHUP)
    manager.hear("READY=1")
    assert manager.heard[0] == "RELOADING=1"
    assert manager.heard[1].startswith("MONOTONIC_USEC=")
    assert manager.end()[0] == 0


def test_a_watchdog_without_need_is_not_fed(manager: Manager) -> None:
    manager.start("")
    manager.hear("READY=1")
    manager.hear("STATUS=no roles")
    manager.end()
    manager.hear("STOPPING=1")
    assert not any(each.startswith("WATCHDOG") for each in manager.heard)


def test_a_detached_daemon_tells_its_own_pid(manager: Manager) -> None:
    process = manager.start("", options=())
    process.communicate(timeout=TIMEOUT)
    manager.hear(f"MAINPID={manager.site.status()['pid']}")
    manager.site.good("stop")


def test_roles_take_sockets_by_address_and_by_name(manager: Manager) -> None:
    with listener() as one, listener() as other, listener() as stranger:
        config = echo("one", address(one)) + echo("two", "systemd:two")
        manager.start(config, {"one": one, "two": other, "old": stranger})
        manager.hear("STATUS=one: ready, two: ready")
        assert echoes(one.getsockname())
        assert echoes(other.getsockname())
        code, log = manager.end()
        assert code == 0
        where = address(stranger)
        assert f'no role listens there socket="old at {where}"' in log


def test_no_connection_is_refused_while_the_daemon_starts_again(manager: Manager) -> None:
    with listener() as sock:
        config = echo("one", "systemd:edge")
        manager.start(config, {"edge": sock})
        manager.hear("READY=1")
        assert manager.end()[0] == 0
        with socket.create_connection(sock.getsockname(), timeout=TIMEOUT) as early:
            early.sendall(b"x")
            manager.start(config, {"edge": sock})
            assert early.recv(1) == b"x"
        assert manager.end()[0] == 0


def test_a_role_that_starts_again_finds_its_socket_again(manager: Manager) -> None:
    with listener() as sock:
        manager.start(echo("one", "systemd:edge"), {"edge": sock})
        manager.hear("READY=1")
        for _ in range(2):
            argv = [sys.executable, "-m", "ctl", "role", "restart", "one"]
            subprocess.run(argv, env=manager.site.environment, check=True, capture_output=True)
            assert echoes(sock.getsockname())
        assert manager.end()[0] == 0


def test_a_name_that_is_not_there_is_said(manager: Manager) -> None:
    with listener() as sock:
        config = echo("one", "systemd:none") + echo("two", "systemd:edge")
        manager.start(config, {"edge": sock})
        manager.hear("STATUS=one: backoff (cannot listen on systemd:none: this process was started")
        assert manager.end()[0] == 0


def test_the_control_socket_is_inherited_and_left_where_it_is(manager: Manager) -> None:
    control = manager.site.control
    control.parent.mkdir(mode=0o755)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(control))
        sock.listen()
        manager.start(echo("one", "127.0.0.1:0"), {"control": sock})
        manager.hear("READY=1")
        assert manager.site.status()["control"] == str(control)
        assert os.listdir(control.parent) == [control.name]  # noqa: PTH208 - no lock beside it
        assert manager.end()[0] == 0
        assert control.is_socket()


def test_a_control_socket_elsewhere_is_refused(manager: Manager) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        path = manager.site.directory / "elsewhere"
        sock.bind(str(path))
        sock.listen()
        process = manager.start("", {"control": sock})
        _, err = process.communicate(timeout=TIMEOUT)
        assert process.returncode == 1
        assert f"the inherited socket 'control' is at unix:{path}, not at unix:" in err


SERVER = """
[[role]]
kind = "server"
name = "edge"
policy = {{ open = true }}
processes = 2
[[role.frontends]]
listen = "{frontend}"
cert = "{pki}/frontend/server.crt"
key = "{pki}/frontend/server.key"
client-ca = "{pki}/frontend/ca.crt"
[[role.frontends]]
listen = "{unix}"
[role.websocket]
listen = "systemd:web"
[role.tunnel]
listen = "systemd:tunnel"
cert = "{pki}/agent/server.crt"
key = "{pki}/agent/server.key"
client-ca = "{pki}/agent/ca.crt"
[[role]]
kind = "agent"
name = "home"
policy = {{ open = true }}
server = "{tunnel}"
cert = "{pki}/agent/agent.crt"
key = "{pki}/agent/agent.key"
ca = "{pki}/agent/ca.crt"
"""


def test_the_processes_of_a_server_share_inherited_sockets(manager: Manager, pki: Path) -> None:
    path = manager.site.directory / "edge.sock"
    with (
        listener() as frontend,
        listener() as tunnel,
        listener() as web,
        socket.socket(socket.AF_UNIX) as local,
    ):
        local.bind(str(path))
        local.listen()
        config = SERVER.format(
            pki=pki, frontend=address(frontend), tunnel=address(tunnel), unix=f"unix:{path}"
        )
        sockets = {"clients": frontend, "tunnel": tunnel, "web": web, "local": local}
        process = manager.start(config + echo("one", "127.0.0.1:0"), sockets)
        manager.hear("STATUS=edge: ready, home: ready (connected to 2 of 2 servers), one: ready")
        server, _, one = manager.site.status()["roles"]
        expected = {address(each) for each in (frontend, tunnel, web)} | {f"unix:{path}"}
        assert set(server["addresses"]) == expected
        [endpoint] = one["addresses"]
        keys = pki / "frontend"
        options = ["--cert", f"{keys}/client.crt", "--key", f"{keys}/client.key"]
        options += ["--ca", f"{keys}/ca.crt"]
        for proxy in ([address(frontend), *options], [f"unix:{path}"]):
            argv = [sys.executable, "-m", "ctl", "dial", "--proxy", *proxy, endpoint]
            done = subprocess.run(argv, input=b"hello", capture_output=True, timeout=TIMEOUT)
            assert (done.returncode, done.stdout, done.stderr) == (0, b"hello", b"")
        for child in children(process.pid):
            environ = Path(f"/proc/{child}/environ").read_bytes()
            assert not re.search(rb"(^|\0)(LISTEN|NOTIFY|WATCHDOG)_", environ)
        assert manager.end()[0] == 0
        assert path.is_socket()


def children(pid: int) -> list[str]:
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    assert len(found) == 2
    return found


def test_systemd_socket_activate_starts_it_with_its_sockets(tmp_path: Path) -> None:
    program = shutil.which("systemd-socket-activate")
    need(program, "systemd-socket-activate (package systemd)")
    site = Site(tmp_path)
    with listener() as probe:
        where = probe.getsockname()
    argv = [str(program), "-l", f"{where[0]}:{where[1]}", "--fdname=edge"]
    argv += [f"--setenv=TUNNELD_{name}" for name in ("CONTROL", "STATE")]
    argv += ["--setenv=PYTHONPATH", sys.executable, "-m", "tunneld", "start", "--foreground"]
    argv += ["--config", site.config(echo("one", "systemd:edge"))]
    environment = {**site.environment, "PYTHONPATH": os.getcwd()}  # noqa: PTH109
    with subprocess.Popen(argv, env=environment, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        while "Listening on" not in process.stderr.readline():
            pass
        assert echoes(where)  # the first connection starts it, and is served
        assert echoes(where)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=TIMEOUT)
        assert process.returncode == 0


def reached(served: list[bool], wanted: int) -> bool:
    return len(served) > wanted


def test_nobody_is_refused_in_many_restarts(manager: Manager) -> None:
    """Clients connect all the time, while the daemon is started and drained again and again."""
    with listener() as sock:
        done = threading.Event()
        served: list[bool] = []
        failures: list[Exception] = []

        def clients() -> None:
            while not done.is_set():
                try:
                    served.append(echoes(sock.getsockname()))
                except OSError as exc:
                    failures.append(exc)

        thread = threading.Thread(target=clients)
        thread.start()
        try:
            for _ in range(3):
                manager.start(echo("one", "systemd:edge"), {"edge": sock})
                manager.hear("READY=1")
                wanted = len(served) + 20
                until(partial(reached, served, wanted))
                assert manager.end()[0] == 0
                manager.heard.clear()
            manager.start(echo("one", "systemd:edge"), {"edge": sock})  # serves who still waits
            manager.hear("READY=1")
        finally:
            done.set()
            thread.join(TIMEOUT)
        assert failures == []
        assert all(served)
        assert manager.end()[0] == 0
