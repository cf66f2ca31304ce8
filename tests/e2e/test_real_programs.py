"""Real programs, none of them ours, through the tunnel."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import need
from tests.e2e.conftest import PRIVATE, SERVER, Lab, running

pytestmark = pytest.mark.e2e

PROGRAMS = Path(__file__).parent / "programs"


def find(program: str) -> str:
    path = shutil.which(program) or shutil.which(program, path="/usr/sbin:/sbin")
    need(path, f"{program} is not installed")
    assert path is not None
    return path


def curl(lab: Lab, *argv: str) -> bytes:
    frontend = lab.pki / "frontend"
    done = lab.exec(
        "public",
        find("curl"),
        *("--silent", "--show-error", "--max-time", "20", "--proxytunnel"),
        *("--proxy", f"https://{SERVER}:8090", "--proxy-cacert", str(frontend / "ca.crt")),
        *("--proxy-cert", str(frontend / "client.crt")),
        *("--proxy-key", str(frontend / "client.key")),
        *argv,
    )
    return done.stdout


def test_curl_over_http_1(lab: Lab) -> None:
    assert b"Everything is ok" in curl(lab, f"http://{PRIVATE}:8080/ok")


def test_curl_over_http_2(lab: Lab) -> None:
    version = subprocess.run([find("curl"), "--version"], capture_output=True, text=True).stdout
    found = re.match(r"curl (\d+)\.(\d+)", version)
    need(
        found and (int(found[1]), int(found[2])) >= (8, 1) and "nghttp2" in version,
        "curl 8.1 or later with HTTP/2 is not installed",
    )
    out = curl(lab, "--proxy-http2", "--verbose", "--stderr", "-", f"http://{PRIVATE}:8080/ok")
    assert b"Everything is ok" in out
    assert b"CONNECT tunnel: HTTP/2 negotiated" in out


def test_curl_resolves_a_private_name(lab: Lab) -> None:
    assert b"Everything is ok" in curl(lab, "http://local-server.svc:8080/ok")


def test_httpx_through_the_frontend(lab: Lab) -> None:
    pytest.importorskip("httpx")
    lab.daemon.ctl("certs", "issue", "server", "web", "--san", PRIVATE, "--dir", str(lab.pki))
    files = [str(lab.pki / "frontend" / name) for name in ("web.crt", "web.key")]
    server = [sys.executable, str(PROGRAMS / "https_server.py"), PRIVATE, "8443", *files]
    client = [sys.executable, str(PROGRAMS / "httpx_get.py"), str(lab.pki)]
    with running(lab.popen("private", *server), b"ready"):
        done = lab.exec("public", *client, f"https://{PRIVATE}:8443/")
    assert done.stdout == b"200 private\n"


@pytest.mark.root  # sshd in a user namespace cannot switch users
def test_ssh_with_proxy_command(lab: Lab, tmp_path: Path) -> None:
    sshd, keygen, ssh = find("sshd"), find("ssh-keygen"), find("ssh")
    for name in ("host", "user"):
        subprocess.run([keygen, "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / name], check=True)
    Path("/run/sshd").mkdir(exist_ok=True)
    settings = {
        "Port": "22",
        "ListenAddress": PRIVATE,
        "HostKey": tmp_path / "host",
        "AuthorizedKeysFile": tmp_path / "user.pub",
        "StrictModes": "no",
        "UsePAM": "no",
        "PidFile": "none",
    }
    config = tmp_path / "sshd_config"
    config.write_text("".join(f"{key} {value}\n" for key, value in settings.items()))
    proxy = " ".join([*lab.daemon.ctl_argv("dial"), "%h:%p"])
    with running(lab.popen("private", sshd, "-D", "-e", "-f", str(config)), b"listening"):
        done = lab.daemon.run(
            *(ssh, "-F", "none", "-i", str(tmp_path / "user"), "-o", f"ProxyCommand={proxy}"),
            *("-o", "StrictHostKeyChecking=no", "-o", f"UserKnownHostsFile={tmp_path}/known"),
            *("-o", "BatchMode=yes", f"root@{PRIVATE}", "cat; echo $SSH_CONNECTION"),
            stdin=b"typed at this end\n",
        )
    assert b"typed at this end" in done.stdout
    assert f"{PRIVATE} 22".encode() in done.stdout


def test_grpcio_through_forward(lab: Lab) -> None:
    pytest.importorskip("grpc")
    server, client = str(PROGRAMS / "grpcio_server.py"), str(PROGRAMS / "grpcio_client.py")
    address = f"{PRIVATE}:4002"
    forward = lab.daemon.ctl_argv("forward", "127.0.0.1:0", address)
    with (
        running(lab.popen("private", sys.executable, server, address), b"ready"),
        running(lab.daemon.popen(forward), b"127.0.0.1:") as line,
    ):
        found = re.search(rb"127\.0\.0\.1:\d+", line)
        assert found
        done = lab.daemon.run(sys.executable, client, found[0].decode())
    assert done.stdout == b"Hello grpcio!\n1000 streamed\n"


def test_dnsmasq_in_place_of_our_dns(lab: Lab) -> None:
    dnsmasq = find("dnsmasq")
    roles = [role["name"] for role in lab.daemon.json("role", "list")["roles"]]
    (dns,) = [name for name in roles if name.rsplit("/")[-1] == "dns"]
    lab.daemon.ctl("role", "stop", dns)
    try:
        argv = [dnsmasq, "--no-daemon", "--no-resolv", "--no-hosts", "--log-queries", "--user="]
        argv += [f"--listen-address={PRIVATE}", "--bind-interfaces"]
        argv += [f"--address=/elsewhere.svc/{PRIVATE}"]
        with running(lab.popen("private", *argv), b"started"):
            done = lab.daemon.ctl("http", "http://elsewhere.svc:8080/ok")
        assert b"Everything is ok" in done.stdout
    finally:
        lab.daemon.ctl("role", "start", dns)


def test_a_frontend_is_closed_to_strangers(lab: Lab) -> None:
    done = lab.exec(
        *("public", find("curl"), "--silent", "--show-error", "--max-time", "20"),
        *("--proxytunnel", "--proxy", f"https://{SERVER}:8090"),
        *("--proxy-cacert", str(lab.pki / "frontend/ca.crt"), f"http://{PRIVATE}:8080/ok"),
        check=False,
    )
    assert done.returncode != 0
    assert b"certificate required" in done.stderr.lower()


def test_public_cannot_reach_private_without_the_tunnel(lab: Lab) -> None:
    code = f"import socket; socket.create_connection(({PRIVATE!r}, 8080), 3)"
    assert lab.exec("public", sys.executable, "-c", code, check=False).returncode != 0
