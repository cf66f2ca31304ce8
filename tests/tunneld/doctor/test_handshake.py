"""TLS towards servers of all sorts; the real ones are in tests/e2e/test_doctor.py."""

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path

import pytest

from frames import BufferedConnection, Role
from tests.tunneld.doctor.samples import write_pair
from tunneld.certificate import Kind, read
from tunneld.doctor.handshake import Server, check_tls, shows
from tunneld.tlscontext import client_context

ALPN = ["rh2", "h2"]


@contextmanager
def serving(context: ssl.SSLContext | None, say: bytes = b"") -> Iterator[tuple[str, int]]:
    """A server that says something behind TLS, or without it, to each of its connections, and then
    hears them out."""

    def serve(sock: socket.socket) -> None:
        with closing(sock):
            sock.settimeout(10)
            try:
                if context is not None:
                    sock = context.wrap_socket(sock, server_side=True)
                sock.sendall(say)
                while sock.recv(4096):
                    pass
            except OSError:
                pass
            finally:
                sock.close()

    def accept() -> None:
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            if done.is_set():
                sock.close()
                return
            serve(sock)

    done = threading.Event()
    listener = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=accept)
    thread.start()
    address = listener.getsockname()
    try:
        yield address
    finally:
        done.set()
        socket.create_connection(address).close()
        thread.join(10)
        listener.close()


def server_tls(pki: Path, *alpn: str, cert: str = "", key: str = "") -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    folder = pki / "agent"
    context.load_cert_chain(cert or folder / "server.crt", key or folder / "server.key")
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return context


def checked(
    pki: Path, address: tuple[str, int], name: str = "127.0.0.1", ca: str = "agent/ca.crt"
) -> dict[str, tuple[str, str, str]]:
    folder = pki / "agent"
    context = partial(
        client_context,
        str(folder / "agent.crt"),
        str(folder / "agent.key"),
        str(pki / ca),
        ALPN,
    )
    connect = partial(socket.create_connection, address, 5)
    found = check_tls(Server("there", name, connect, context))
    return {each.check: (str(each.verdict), each.detail, each.action) for each in found}


def h2_greeting() -> bytes:
    connection = BufferedConnection(Role.SERVER)
    connection.connection.initiate()
    return connection.data_to_send()


def test_a_konnectivity_server_is_known_by_its_protocol(pki: Path) -> None:
    with serving(server_tls(pki, "h2"), h2_greeting()) as address:
        found = checked(pki, address)
    assert {verdict for verdict, _, _ in found.values()} == {"pass"}
    assert "konnectivity" in found["alpn"][1]
    assert "clock skew" not in found  # it does not say its time


def test_a_server_without_a_protocol_of_ours_is_none(pki: Path) -> None:
    with serving(server_tls(pki)) as address:
        found = checked(pki, address)
    assert found["server name"][0] == "pass"
    assert found["alpn"][0] == "fail"
    assert "none" in found["alpn"][1]


def test_what_speaks_something_else_behind_tls_does_not_let_us_in(pki: Path) -> None:
    for protocol in ALPN:
        with serving(server_tls(pki, protocol), b"SSH-2.0-nonsense\r\n") as address:
            assert checked(pki, address)["admission"][0] == "fail"


def test_another_name_is_told_with_those_that_are_shown(pki: Path) -> None:
    with serving(server_tls(pki, "h2")) as address:
        found = checked(pki, address, name="edge.example.org")
    assert found["server chain"][0] == "pass"
    assert found["server name"][0] == "fail"
    assert "IP:127.0.0.1" in found["server name"][1]
    assert "server-name" in found["server name"][2]
    assert found["server certificate"][0] == "pass"


def test_another_ca_is_told_with_the_issuer(pki: Path) -> None:
    with serving(server_tls(pki, "h2")) as address:
        found = checked(pki, address, ca="frontend/ca.crt")
    assert found["server chain"][0] == "fail"
    assert "CN=tunneld agent CA" in found["server chain"][1]
    assert found["server name"][0] == "pass"


@pytest.mark.parametrize(("age", "words"), [(6, "expired"), (-2, "not yet valid")])
def test_a_certificate_out_of_its_time_is_told(
    pki: Path, tmp_path: Path, age: int, words: str
) -> None:
    cert, key = write_pair(pki, tmp_path, Kind.SERVER, days=5, age=age)
    with serving(server_tls(pki, "h2", cert=cert, key=key)) as address:
        found = checked(pki, address)
    assert found["server chain"][0] == "fail"
    assert words in found["server chain"][1]
    assert found["server certificate"][0] == "fail"


def test_a_wrong_name_on_an_expired_certificate_is_told_as_both(pki: Path, tmp_path: Path) -> None:
    cert, key = write_pair(pki, tmp_path, Kind.SERVER, days=5, age=6)
    with serving(server_tls(pki, "h2", cert=cert, key=key)) as address:
        found = checked(pki, address, name="edge.example.org")
    assert found["server name"][0] == "fail"
    assert found["server chain"][0] == "fail"
    assert "make a new certificate" in found["server chain"][2]


def test_what_does_not_speak_tls_is_told_with_a_reason_to_look_up(pki: Path) -> None:
    with serving(None, b"HTTP/1.1 400 Bad Request\r\n\r\n") as address:
        found = checked(pki, address)
    assert verdict_of(found, "tls") == "fail"
    assert "tunnelctl explain" in found["tls"][2]


def verdict_of(found: dict[str, tuple[str, str, str]], check: str) -> str:
    assert list(found) == [check]
    return found[check][0]


def test_what_cannot_be_reached_is_told(pki: Path) -> None:
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))
        assert verdict_of(checked(pki, unheard.getsockname()), "tls") == "fail"


@pytest.mark.parametrize(
    ("name", "fits"),
    [("127.0.0.1", True), ("localhost", True), ("LOCALHOST.", True), ("other", False)],
)
def test_names_are_matched_as_tls_does(pki: Path, name: str, fits: bool) -> None:
    assert shows(read((pki / "agent/server.crt").read_bytes()), name) is fits
