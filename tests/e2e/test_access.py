"""Secrets, SOCKS5, forwards and the PROXY protocol with real programs around a real daemon: curl as
the client, nginx as the endpoint."""

import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import need
from tests.e2e.conftest import TIMEOUT, Daemon
from tests.e2e.test_through_http import HOST, answers, free_ports, program, until
from tunneld.pki import Pki

pytestmark = pytest.mark.e2e

PASSWORD = "open sesame"

CONFIG = """
[[role]]
kind = "server"
name = "edge"
policy = {{ open = true }}
processes = {processes}

[[role.frontends]]
listen = "{host}:{tls}"
cert = "pki/frontend/server.crt"
key = "pki/frontend/server.key"
client-ca = "pki/frontend/ca.crt"
secrets = "secrets"

[[role.frontends]]
listen = "{host}:{plain}"
plain = true
secrets = "secrets"

[[role.frontends]]
listen = "unix:front.sock"

[role.tunnel]
listen = "{host}:{tunnel}"
cert = "pki/agent/server.crt"
key = "pki/agent/server.key"
secrets = "secrets"

[[role.forwards]]
name = "web"
listen = "{host}:{forward}"
to = "localhost:{http}"
agent = "home"

[[role.forwards]]
name = "nginx"
listen = "{host}:{told}"
to = "{host}:{nginx}"
proxy-protocol = true

[[role.forwards]]
name = "far"
listen = "{host}:{far}"
to = "localhost:{http}"
allow-from = ["192.0.2.0/24"]

[[role]]
kind = "agent"
name = "home"
server = "{host}:{tunnel}"
agent-id = "home"
ca = "pki/agent/ca.crt"
token-path = "home.token"
policy = {{ open = true }}

[[role]]
kind = "http"
name = "hello"
listen = "{host}:{http}"
"""

NGINX = """
daemon off;
pid {directory}/nginx.pid;
error_log stderr;
events {{}}
http {{
  access_log off;
  client_body_temp_path {directory}/body;
  proxy_temp_path {directory}/proxy;
  fastcgi_temp_path {directory}/fastcgi;
  uwsgi_temp_path {directory}/uwsgi;
  scgi_temp_path {directory}/scgi;
  server {{
    listen {host}:{port} proxy_protocol;
    location / {{
      return 200 "from $proxy_protocol_addr to port $proxy_protocol_server_port";
    }}
  }}
}}
"""

NAMES = ("tls", "plain", "tunnel", "forward", "told", "far", "nginx", "http")


@dataclass
class Place:
    """A daemon with a server and its agent, which knows a token."""

    daemon: Daemon
    directory: Path
    ports: dict[str, int]
    token: str

    @property
    def web(self) -> str:
        return f"http://localhost:{self.ports['http']}/ok"

    def curl(self, *argv: str, check: bool = True) -> str:
        common = ("--silent", "--show-error", "--max-time", "20")
        done = self.daemon.run(program("curl"), *common, *argv, check=check)
        return (done.stdout + done.stderr).decode()

    def over_tls(self, *argv: str, check: bool = True) -> str:
        ca = str(self.directory / "pki/frontend/ca.crt")
        proxy = f"https://{HOST}:{self.ports['tls']}"
        argv = ("--proxytunnel", "--proxy", proxy, "--proxy-cacert", ca, *argv)
        return self.curl(*argv, check=check)


@pytest.fixture(params=[1, 2], scope="module")
def place(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Place]:
    """Of one process, and of two."""
    directory = tmp_path_factory.mktemp("access")
    Pki(directory / "pki").init([HOST], "demo")
    daemon = Daemon(directory)
    ports = dict(zip(NAMES, free_ports(len(NAMES)), strict=True))
    config = directory / "tunneld.toml"
    config.write_text(CONFIG.format(host=HOST, processes=request.param, **ports))
    secrets = str(directory / "secrets")
    token = daemon.ctl("secrets", "add", secrets, "home").stdout
    (directory / "home.token").write_bytes(token)
    daemon.ctl("secrets", "add", secrets, "alice", "--password", stdin=PASSWORD.encode())
    web = daemon.ctl("secrets", "add", secrets, "web").stdout.decode().strip()
    daemon.tunneld("start", "--config", str(config))
    try:
        until(lambda: len(daemon.json("agents")["agents"]) == request.param, "agents connected")
        yield Place(daemon, directory, ports, web)
    finally:
        daemon.stop()


@pytest.fixture(scope="module")
def nginx(place: Place) -> Iterator[None]:
    """An endpoint that understands the PROXY protocol, and nothing else."""
    directory, port = place.directory, place.ports["nginx"]
    config = directory / "nginx.conf"
    config.write_text(NGINX.format(directory=directory, host=HOST, port=port))
    argv = [program("nginx"), "-p", str(directory), "-c", str(config)]
    with subprocess.Popen(argv, stderr=subprocess.PIPE) as process:
        try:
            until(lambda: answers(port), "nginx listens")
            yield
        finally:
            process.terminate()
            process.communicate(timeout=TIMEOUT)


@pytest.mark.parametrize("http", ["--http1.1", "--proxy-http2"])
def test_curl_shows_a_password(place: Place, http: str) -> None:
    if http == "--proxy-http2":
        features = place.curl("--version")
        need("HTTP2" in features and "HTTPS-proxy" in features, "curl with HTTP/2 for proxies")
    assert "Everything is ok" in place.over_tls(
        http, "--proxy-user", f"alice:{PASSWORD}", place.web
    )


def test_curl_shows_a_token(place: Place) -> None:
    header = f"Proxy-Authorization: Bearer {place.token}"
    assert "Everything is ok" in place.over_tls("--proxy-header", header, place.web)


def test_curl_asks_what_is_wanted_and_shows_it_on_the_same_connection(place: Place) -> None:
    out = place.over_tls(
        "--verbose", "--proxy-anyauth", "--proxy-user", f"alice:{PASSWORD}", place.web
    )
    assert "407 Proxy Authentication Required" in out
    assert "Everything is ok" in out


def test_curl_without_a_secret_is_refused(place: Place) -> None:
    assert "response 407" in place.over_tls(place.web, check=False)
    assert "response 407" in place.over_tls("--proxy-user", "alice:x", place.web, check=False)


def test_curl_shows_a_certificate_instead(place: Place) -> None:
    client = place.directory / "pki/frontend"
    files = ("--proxy-cert", f"{client}/client.crt", "--proxy-key", f"{client}/client.key")
    assert "Everything is ok" in place.over_tls(*files, place.web)


def test_curl_speaks_socks_and_has_the_agent_resolve_names(place: Place) -> None:
    proxy = f"{HOST}:{place.ports['plain']}"
    user = ("--proxy-user", f"alice:{PASSWORD}")
    assert "Everything is ok" in place.curl(*user, "--socks5-hostname", proxy, place.web)
    refused = place.curl("--socks5-hostname", proxy, place.web, check=False)
    assert "No authentication method was acceptable" in refused
    unknown = place.curl(*user, "--socks5-hostname", proxy, "http://nosuch.invalid/", check=False)
    assert "(4)" in unknown
    old = place.curl("--socks4a", proxy, place.web, check=False)
    assert "(91)" in old


def test_curl_speaks_socks_over_a_unix_socket(place: Place) -> None:
    proxy = f"socks5h://localhost{place.directory}/front.sock"
    version = [int(part) for part in place.curl("--version").split()[1].split(".")[:2]]
    need(version >= [7, 84], "curl 7.84, which reaches SOCKS by UNIX sockets")
    assert "Everything is ok" in place.curl("--proxy", proxy, place.web)


def test_a_forward_needs_no_proxy(place: Place) -> None:
    assert "Everything is ok" in place.curl(f"http://{HOST}:{place.ports['forward']}/ok")
    closed = place.curl(f"http://{HOST}:{place.ports['far']}/ok", check=False)
    assert "reset" in closed or "connect" in closed


def test_nginx_is_told_who_comes_by_a_forward(place: Place, nginx: None) -> None:
    port = place.ports["told"]
    assert place.curl(f"http://{HOST}:{port}/") == f"from {HOST} to port {port}"


def test_nginx_is_told_who_comes_by_connect(place: Place, nginx: None) -> None:
    ask = ("--proxy-header", "tunneld-proxy-protocol: v2", "--proxy-user", f"alice:{PASSWORD}")
    port, url = place.ports["tls"], f"http://{HOST}:{place.ports['nginx']}/"
    assert place.over_tls(*ask, url) == f"from {HOST} to port {port}"


def test_the_list_shows_names_only(place: Place) -> None:
    out = place.daemon.ctl("secrets", "list", str(place.directory / "secrets"), "-o", "json").stdout
    assert [each["name"] for each in json.loads(out)["secrets"]] == ["home", "alice", "web"]
    text = (place.directory / "secrets").read_text()
    assert place.token not in text
    assert PASSWORD not in text
