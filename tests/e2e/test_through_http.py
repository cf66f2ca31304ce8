"""Tunnels through a real nginx and a real HTTP proxy, with daemons of their own at both ends."""

import contextlib
import hashlib
import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import need
from tests.docpages import ROOT, blocks_of
from tests.e2e.conftest import Daemon, running
from tests.e2e.endpoint import pseudo_random
from tests.e2e.tlsclient import ESTABLISHED, connect, context
from tunneld.pki import Pki

pytestmark = pytest.mark.e2e

HOST = "127.0.0.1"
PAGE = ROOT / "docs/how-to/get-through-http.md"
READ_TIMEOUT = 1.0
"""Seconds for nginx to wait between two reads."""
SIZE = 48 << 20
"""Octets of a transfer."""


def program(name: str) -> str:
    path = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    need(path, f"{name} is not installed")
    assert path is not None
    return path


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        listeners = [stack.enter_context(socket.create_server((HOST, 0))) for _ in range(count)]
        return [listener.getsockname()[1] for listener in listeners]


def until(true: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + 20
    while not true():
        assert time.monotonic() < deadline, f"still not: {what}"
        time.sleep(0.05)


def answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((HOST, port), 1):
        return True
    return False


class Nginx:
    """With the configuration of the how-to, but for names, ports and the time-out."""

    def __init__(self, directory: Path, pki: Path, port: int, websocket: int) -> None:
        self.port = port
        self._directory = directory
        (block,) = [each for each in blocks_of(PAGE) if each.language == "nginx"]
        site = block.text
        for printed, ours in {
            "listen 443 ssl": f"listen {HOST}:{port} ssl",
            "/etc/nginx/edge.example.org.crt": str(pki / "frontend/server.crt"),
            "/etc/nginx/edge.example.org.key": str(pki / "frontend/server.key"),
            "http://127.0.0.1:8092": f"http://{HOST}:{websocket}",
            "proxy_read_timeout 60s": f"proxy_read_timeout {READ_TIMEOUT:.0f}s",
        }.items():
            assert printed in site
            site = site.replace(printed, ours)
        temporary = "".join(
            f"{kind}_temp_path {directory}/{kind};\n"
            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        user = "user root;\n" if os.geteuid() == 0 else ""
        (directory / "nginx.conf").write_text(
            f"{user}daemon off;\nworker_processes 1;\npid {directory}/nginx.pid;\n"
            f"error_log {directory}/error.log;\nevents {{}}\n"
            f"http {{\naccess_log off;\n{temporary}{site}}}\n"
        )
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        argv = [program("nginx"), "-c", str(self._directory / "nginx.conf")]
        self._process = subprocess.Popen(
            [*argv, "-e", str(self._directory / "error.log")], cwd=self._directory
        )
        until(lambda: answers(self.port), "nginx listens")

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def stop(self) -> None:
        """At once, whatever runs."""
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait(10)
            self._process = None


class Site:
    """A server with a WebSocket listener behind nginx, an HTTP proxy, an agent's daemon and an
    endpoint: all on the loopback."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.pki = directory / "pki"
        Pki(self.pki).init([HOST], "demo")
        ports = free_ports(6)
        self.frontend, self.tunnel, self.websocket, web, self.proxy, self.endpoint = ports
        self.nginx = Nginx(self._make("nginx"), self.pki, web, self.websocket)
        self.wss = f"wss://{HOST}:{web}/tunnel"
        self.server = Daemon(self._make("server"))
        self.agent = Daemon(self._make("agent"))

    def _make(self, name: str) -> Path:
        made = self.directory / name
        made.mkdir()
        return made

    def start(self, daemon: Daemon, name: str, text: str) -> None:
        file = self.pki / f"{name}.toml"
        file.write_text(text)
        daemon.tunneld("start", "--config", str(file))

    def start_server(self) -> None:
        text = f"""
            [[role]]
            kind = "server"
            name = "edge"
            policy = {{ open = true }}
            keepalive = 0.3
            tunnel.listen = "{HOST}:{self.tunnel}"
            tunnel.cert = "agent/server.crt"
            tunnel.key = "agent/server.key"
            tunnel.client-ca = "agent/ca.crt"
            websocket.listen = "{HOST}:{self.websocket}"
            websocket.trusted-proxies = ["{HOST}"]
            [[role.frontends]]
            listen = "{HOST}:{self.frontend}"
            cert = "frontend/server.crt"
            key = "frontend/server.key"
            client-ca = "frontend/ca.crt"
        """
        self.start(self.server, "server", text)

    def start_agent(self, **options: str) -> None:
        settings = {
            "server": self.wss,
            "websocket-ca": "frontend/ca.crt",
            "cert": "agent/agent.crt",
            "key": "agent/agent.key",
            "ca": "agent/ca.crt",
            **options,
        }
        lines = "\n".join(f"{key} = {json.dumps(value)}" for key, value in settings.items())
        self.start(
            self.agent,
            "agent",
            f'[[role]]\nkind = "agent"\nname = "home"\npolicy = {{ open = true }}\n'
            f"backoff-min = 0.1\nbackoff-max = 0.5\nkeepalive = 0.3\n{lines}\n",
        )

    def connect_agent(self, **options: str) -> None:
        self.start_agent(**options)
        until(self.agents, "the agent is connected")

    def agents(self) -> list[dict[str, object]]:
        found: list[dict[str, object]] = self.server.json("agents")["agents"]
        return found

    def role(self) -> dict[str, str]:
        """The agent's, as its daemon shows it."""
        (row,) = self.agent.json("role", "list")["roles"]
        return dict(row)

    def dial(self) -> ssl.SSLSocket:
        frontend = (HOST, self.frontend)
        sock, reply = connect(context(self.pki), HOST, self.endpoint, frontend)
        assert reply == ESTABLISHED
        return sock

    def upload(self) -> bool:
        """Whether what arrived is what was sent."""
        digest = hashlib.sha256()
        with self.dial() as sock:
            sock.sendall(b"h")
            for piece in pseudo_random(SIZE):
                digest.update(piece)
                sock.sendall(piece)
            socket.socket.shutdown(sock, socket.SHUT_WR)
            return read_all(sock) == digest.digest()

    def download(self) -> bool:
        digest = hashlib.sha256()
        with self.dial() as sock:
            sock.sendall(b"s" + SIZE.to_bytes(8, "big"))
            octets = read_all(sock)
        digest.update(octets[:-32])
        return len(octets) == SIZE + 32 and octets[-32:] == digest.digest()


def read_all(sock: ssl.SSLSocket) -> bytes:
    octets = bytearray()
    while data := sock.recv(1 << 16):
        octets += data
    return bytes(octets)


def read_below_tls(sock: ssl.SSLSocket) -> None:
    """To the end of the TCP connection, which `ssl` does not tell apart from other ends."""
    while socket.socket.recv(sock, 1 << 16):
        pass


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    program("nginx")
    site = Site(tmp_path)
    endpoint = [sys.executable, "-m", "tests.e2e.endpoint", HOST, str(site.endpoint)]
    try:
        with running(site.server.popen(endpoint), b"ready"):
            site.nginx.start()
            site.start_server()
            yield site
    finally:
        site.agent.stop()
        site.server.stop()
        site.nginx.stop()


@contextlib.contextmanager
def tinyproxy(site: Site) -> Iterator[str]:
    """Its URL, without the credentials that it wants; and in the end it has carried something."""
    log = site.directory / "tinyproxy.log"
    conf = site.directory / "tinyproxy.conf"
    conf.write_text(
        f"Port {site.proxy}\nListen {HOST}\nTimeout 600\nLogLevel Connect\nLogFile "
        f'"{log}"\nBasicAuth me secret\n'
    )
    process = subprocess.Popen([program("tinyproxy"), "-d", "-c", str(conf)])
    try:
        until(lambda: answers(site.proxy), "tinyproxy listens")
        yield f"http://{HOST}:{site.proxy}"
    finally:
        process.terminate()
        process.wait(10)
    assert re.search(r"CONNECT .*HTTP/1.1", log.read_text())


def test_octets_arrive_as_they_were_sent_through_nginx(site: Site) -> None:
    site.connect_agent()
    assert site.upload()
    assert site.download()


def test_an_idle_tunnel_outlasts_the_read_timeout_of_nginx(site: Site) -> None:
    site.connect_agent()
    before = [row["since"] for row in site.agents()]
    with site.dial() as sock:
        sock.sendall(b"h")
        time.sleep(2.5 * READ_TIMEOUT)
        sock.sendall(b"and more")
        socket.socket.shutdown(sock, socket.SHUT_WR)
        assert read_all(sock) == hashlib.sha256(b"and more").digest()
    assert [row["since"] for row in site.agents()] == before


def test_a_restart_of_nginx_resets_what_runs_and_the_agent_comes_back(site: Site) -> None:
    site.connect_agent()
    with site.dial() as sock:
        sock.sendall(b"f")  # zeros without end
        sock.recv(1)
        site.nginx.stop()
        with pytest.raises(ConnectionResetError):
            read_below_tls(sock)
    until(lambda: not site.agents(), "the server has lost the agent")
    site.nginx.start()
    until(site.agents, "the agent is back")
    assert site.download()


def test_a_reload_of_nginx_cuts_nothing(site: Site) -> None:
    site.connect_agent()
    before = [row["since"] for row in site.agents()]
    with site.dial() as sock:
        sock.sendall(b"h")
        site.nginx.signal(signal.SIGHUP)
        sock.sendall(b"and more")
        socket.socket.shutdown(sock, socket.SHUT_WR)
        assert read_all(sock) == hashlib.sha256(b"and more").digest()
    assert [row["since"] for row in site.agents()] == before


def test_a_wrong_path_is_told_as_nginx_tells_it(site: Site) -> None:
    site.start_agent(server=site.wss.replace("/tunnel", "/other"))
    until(lambda: site.role()["state"] == "backoff", "the agent fails")
    role = site.role()
    assert "it answers 'HTTP/1.1 404 Not Found; Server: nginx" in role["reason"]


def test_through_a_real_proxy_with_a_password(site: Site) -> None:
    with tinyproxy(site) as url:
        credentials = site.pki / "credentials"
        credentials.write_text("me:secret\n")
        options = {"http-proxy": url, "http-proxy-credentials": credentials.name}
        site.connect_agent(server=f"{HOST}:{site.tunnel}", **options)
        assert site.upload()
        assert site.download()
        site.agent.stop()


def test_through_nginx_and_a_real_proxy(site: Site) -> None:
    with tinyproxy(site) as url:
        site.connect_agent(**{"http-proxy": url.replace("//", "//me:secret@")})
        assert site.upload()
        assert site.download()
        site.agent.stop()
