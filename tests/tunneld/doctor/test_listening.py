"""Listeners that answer, that do not, that are free, and that somebody else has."""

import os
import socket
from pathlib import Path

import pytest

from tests.tunneld.doctor.samples import only, verdicts, write_pair
from tests.tunneld.doctor.test_handshake import server_tls, serving
from tunneld.certificate import Kind
from tunneld.config import EchoConfig, Frontend, ServerConfig, TunnelListener
from tunneld.doctor.listeners import Listening, address_of, listeners_of
from tunneld.doctor.listening import check_answers, check_files, check_free, listener_checks
from tunneld.doctor.running import run_checks

SERVER = ServerConfig(
    name="edge",
    frontends=(
        Frontend(listen="127.0.0.1:0", cert="a", key="b", client_ca="c"),
        Frontend(listen="unix:/run/x"),
    ),
    tunnel=TunnelListener(listen="systemd:agents", cert="d", key="e", client_ca="f"),
)


def test_every_listener_has_a_title() -> None:
    every = list(listeners_of(SERVER))
    assert [each.title for each in every] == ["frontend 1", "frontend 2", "tunnel"]
    assert [each.title for each in listeners_of(EchoConfig(name="echo"))] == ["listener"]


def test_a_listener_without_a_port_of_its_own_is_where_the_server_says() -> None:
    every = list(listeners_of(SERVER))
    said = ["127.0.0.1:4711", "unix:/run/x", "[::]:8091"]
    assert [address_of(each, every, said) for each in every] == said
    assert [address_of(each, every, said[:1]) for each in every] == [None, "unix:/run/x", None]


def test_a_listener_answers_with_the_certificate_of_its_file(pki: Path) -> None:
    cert = str(pki / "agent/server.crt")
    with serving(server_tls(pki)) as (host, port):
        listening = Listening("tunnel", f"{host}:{port}", cert)
        found = only(check_answers(listening, f"{host}:{port}", "edge"))
    assert (str(found.verdict), "answers with TLS" in found.detail) == ("pass", True)


def test_a_certificate_that_was_exchanged_is_warned_of(pki: Path, tmp_path: Path) -> None:
    cert, _ = write_pair(pki, tmp_path, Kind.SERVER)
    with serving(server_tls(pki)) as (host, port):
        listening = Listening("tunnel", f"{host}:{port}", cert)
        found = list(check_answers(listening, f"{host}:{port}", "edge"))
    assert verdicts(found) == [("tunnel", "pass"), ("tunnel certificate", "warn")]


def test_a_plain_listener_answers(tmp_path: Path) -> None:
    with serving(None) as (host, port):
        found = only(check_answers(Listening("forward x", "x"), f"{host}:{port}", "edge"))
        assert str(found.verdict) == "pass"
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        found = only(check_answers(Listening("frontend", "x"), f"unix:{path}", "edge"))
        assert str(found.verdict) == "pass"


@pytest.mark.parametrize("cert", ["", "/some.crt"])
def test_a_listener_that_does_not_answer_fails(tmp_path: Path, cert: str) -> None:
    for address in ("127.0.0.1:1", f"unix:{tmp_path}/none", "nonsense"):
        found = only(check_answers(Listening("tunnel", "x", cert), address, "edge"))
        assert (str(found.verdict), found.action) == ("fail", "see: tunnelctl role logs edge")


def test_an_address_that_cannot_be_told_is_noted() -> None:
    assert str(only(check_answers(Listening("t", ":0"), None, "edge")).verdict) == "info"


def test_a_port_that_is_taken_is_told_with_who_has_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listen = f"127.0.0.1:{listener.getsockname()[1]}"
        found = only(check_free("tunnel", listen))
    assert str(found.verdict) == "fail"
    assert f"pid {os.getpid()} has it" in found.action
    assert str(only(check_free("tunnel", listen)).verdict) == "pass"


@pytest.mark.parametrize(
    ("listen", "verdict"),
    [
        ("127.0.0.1:0", "pass"),
        (":0", "pass"),
        ("192.0.2.1:8090", "fail"),
        ("nosuch.invalid:1", "fail"),
        ("nonsense", "fail"),
        ("systemd:agents", "info"),
        ("unix:/nosuch/socket", "fail"),
        ("unix:/tmp/some.socket", "pass"),
    ],
)
def test_where_could_be_listened_is_tried(listen: str, verdict: str) -> None:
    assert str(only(check_free("tunnel", listen)).verdict) == verdict


def test_files_of_a_listener_are_looked_at(pki: Path, tmp_path: Path) -> None:
    folder = pki / "agent"
    cert, key, ca = (str(folder / name) for name in ("server.crt", "server.key", "ca.crt"))
    lacking = ("/nosuch.crl",), str(tmp_path / "none")
    found = check_files(Listening("tunnel", "x", cert, key, ca, *lacking))
    assert verdicts(found) == [
        ("tunnel certificate", "pass"),
        ("tunnel certificate chain", "pass"),
        ("tunnel certificate key", "pass"),
        ("tunnel certificate key mode", "pass"),
        ("tunnel client-ca", "pass"),
        ("tunnel crl", "fail"),
        ("tunnel secrets", "fail"),
    ]


def test_an_endpoint_has_a_listener_too() -> None:
    config = EchoConfig(name="echo", listen="127.0.0.1:1")
    found = only(run_checks(list(listener_checks(config, ["127.0.0.1:1"]))))
    assert (found.subject, found.check, str(found.verdict)) == ("echo", "listener", "fail")
