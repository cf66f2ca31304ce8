import socket
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest

from ctl.http_exchange import parse_url
from ctl.messages import ControlError
from ctl.reset import send_reset
from tests.ctl.conftest import Run
from tests.ctl.fakedaemon import Dial, FakeDaemon

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nX-A: b\r\n\r\nok\n"


class Endpoint:
    """Reads one request, keeps it, sends a canned response and closes."""

    def __init__(self, response: bytes) -> None:
        self.response = response
        self.request = b""

    def __call__(self, sock: socket.socket) -> None:
        while b"\r\n\r\n" not in self.request:
            data = sock.recv(65536)
            if not data:
                return
            self.request += data
        head, _, body = self.request.partition(b"\r\n\r\n")
        length = next(
            (int(line[15:]) for line in head.split(b"\r\n") if line.startswith(b"Content-Length:")),
            0,
        )
        while len(body) < length:
            data = sock.recv(65536)
            self.request += data
            body += data
        sock.sendall(self.response)
        sock.shutdown(socket.SHUT_WR)
        while sock.recv(65536):
            pass


@pytest.fixture
def serve(daemon: FakeDaemon) -> Callable[[bytes], Endpoint]:
    def serve(response: bytes) -> Endpoint:
        endpoint = Endpoint(response)
        daemon.answers["dial"] = Dial(endpoint)
        return endpoint

    return serve


Serve = Callable[[bytes], Endpoint]


def test_the_body_is_printed(run: Run, serve: Serve, daemon: FakeDaemon) -> None:
    endpoint = serve(OK)
    done = run("http", "http://192.168.1.2:8080/ok?a=b c")
    assert (done.code, done.stdout, done.stderr) == (0, "ok\n", "")
    assert daemon.calls == [("dial", {"host": "192.168.1.2", "port": 8080, "server": None})]
    assert endpoint.request.split(b"\r\n")[:2] == [
        b"GET /ok?a=b%20c HTTP/1.1",
        b"Host: 192.168.1.2:8080",
    ]


def test_the_hops_and_heads_are_shown_on_stderr(run: Run, serve: Serve) -> None:
    serve(OK)
    done = run("http", "-v", "http://h/")
    assert done.stdout == "ok\n"
    hops = done.stderr.splitlines()[0]
    assert hops.startswith("* connected in ")
    assert "tunnelctl → tunneld 4711" in hops
    assert hops.endswith("→ 2.2.2.2 via agent demo → h:80")
    assert "\n> GET / HTTP/1.1\n" in done.stderr
    assert "\n< HTTP/1.1 200 OK\n" in done.stderr


def test_the_head_is_included_on_demand(run: Run, serve: Serve) -> None:
    serve(OK)
    done = run("http", "-i", "http://h/")
    assert done.stdout == "HTTP/1.1 200 OK\nContent-Length: 3\nX-A: b\n\nok\n"


def test_method_headers_and_data_are_sent(run: Run, serve: Serve, tmp_path: Path) -> None:
    endpoint = serve(OK)
    (tmp_path / "body").write_bytes(b"\x00\xff" * 100_000)
    run(
        "http",
        "-X",
        "PUT",
        "-H",
        "X-B: c",
        "-H",
        "host: other",
        "-d",
        f"@{tmp_path}/body",
        "http://h/x",
    )
    head, _, body = endpoint.request.partition(b"\r\n\r\n")
    assert head.startswith(b"PUT /x HTTP/1.1\r\n")
    assert b"\r\nX-B: c" in head
    assert b"\r\nhost: other" in head
    assert b"Host: h" not in head
    assert b"\r\nContent-Length: 200000" in head
    assert body == b"\x00\xff" * 100_000


def test_data_makes_it_a_post(run: Run, serve: Serve) -> None:
    endpoint = serve(OK)
    run("http", "-d", "a=b", "http://h/")
    assert endpoint.request.startswith(b"POST / HTTP/1.1\r\n")
    assert endpoint.request.endswith(b"\r\n\r\na=b")


NOT_FOUND = b"HTTP/1.1 404 Not Found\r\nContent-Length: 5\r\n\r\nnone\n"


def test_an_error_status_is_an_answer_like_another(run: Run, serve: Serve) -> None:
    serve(NOT_FOUND)
    done = run("http", "http://h/x")
    assert (done.code, done.stdout) == (0, "none\n")


def test_an_error_status_fails_on_demand(run: Run, serve: Serve) -> None:
    serve(NOT_FOUND)
    done = run("http", "--fail", "http://h/x")
    assert (done.code, done.stdout) == (1, "")
    assert "the endpoint answered HTTP/1.1 404 Not Found" in done.stderr


def test_interim_responses_are_passed_over(run: Run, serve: Serve) -> None:
    serve(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + OK)
    assert run("http", "-i", "http://h/").stdout.startswith("HTTP/1.1 200 OK\n")


def test_a_chunked_body_and_one_that_ends_with_the_connection_are_read(
    run: Run, serve: Serve
) -> None:
    serve(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
    assert run("http", "http://h/").stdout == "abc"
    serve(b"HTTP/1.0 200 OK\r\n\r\nold style")
    assert run("http", "http://h/").stdout == "old style"


@pytest.mark.parametrize(
    "response",
    [
        b"",
        b"220 smtp ready\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nabc",
    ],
)
def test_a_response_that_is_broken_off_or_not_http_is_an_error(
    run: Run, serve: Serve, response: bytes
) -> None:
    serve(response)
    done = run("http", "http://h/")
    assert done.code == 1
    assert "error[failed]: the response is broken off or not HTTP/1.1" in done.stderr


def test_a_reset_amid_a_body_that_would_end_with_the_connection_is_an_error(
    run: Run, daemon: FakeDaemon
) -> None:
    def reset(sock: socket.socket) -> None:
        sock.recv(65536)
        sock.sendall(b"HTTP/1.0 200 OK\r\n\r\nhalf")
        send_reset(sock)

    daemon.answers["dial"] = Dial(reset)
    done = run("http", "http://h/")
    assert done.code == 1
    assert "the connection broke: Connection reset by peer" in done.stderr


def test_an_endpoint_that_says_nothing_is_a_timeout(run: Run, daemon: FakeDaemon) -> None:
    def silent(sock: socket.socket) -> None:
        while sock.recv(65536):
            pass

    daemon.answers["dial"] = Dial(silent)
    done = run("http", "--timeout", "0.05", "http://h/")
    assert done.code == 6
    assert "sent nothing for too long" in done.stderr


def test_a_header_with_a_line_break_is_refused(run: Run, serve: Serve) -> None:
    serve(OK)
    assert run("http", "-H", "X: a\r\nEvil: b", "http://h/").code == 2


def test_a_failed_dial_says_why(run: Run, daemon: FakeDaemon) -> None:
    daemon.answers["dial"] = ControlError("dns", "no such host")
    assert run("http", "http://h/").code == 1


@pytest.mark.parametrize(
    ("url", "authority", "target"),
    [
        ("http://h", "h", "/"),
        ("http://H:80/a#part", "h", "/a"),
        ("https://h:443/", "h", "/"),
        ("https://h:80/", "h:80", "/"),
        ("http://[::1]:8080/?q", "[::1]:8080", "/?q"),
        ("http://bücher.example/ü", "xn--bcher-kva.example", "/%C3%BC"),
        ("http://h/%41%20?a=%26", "h", "/%41%20?a=%26"),
    ],
)
def test_urls(url: str, authority: str, target: str) -> None:
    parsed = parse_url(url)
    assert (parsed.authority, parsed.target) == (authority, target)


@pytest.mark.parametrize(
    "url", ["http://user:pw@h/", "http://h:x/", "http://a b/", "//h/", "http://"]
)
def test_bad_urls(url: str) -> None:
    with pytest.raises(ValueError):
        parse_url(url)


class TestTls:
    """https endpoints: TLS goes through the tunnel."""

    @pytest.fixture
    def certificate(self, tmp_path: Path) -> Path:
        return make_certificate(tmp_path / "h.pem", "h.example")

    @pytest.fixture
    def https(self, serve: Serve, daemon: FakeDaemon, certificate: Path) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        endpoint = Endpoint(OK)

        def secured(sock: socket.socket) -> None:
            try:
                with context.wrap_socket(sock, server_side=True) as secure:
                    endpoint(secure)
            except ssl.SSLError:
                pass  # the client refused our certificate

        daemon.answers["dial"] = Dial(secured)

    @pytest.mark.usefixtures("https")
    def test_a_trusted_endpoint_answers(self, run: Run, certificate: Path) -> None:
        done = run("http", "--cacert", str(certificate), "https://h.example/")
        assert (done.code, done.stdout) == (0, "ok\n")

    @pytest.mark.usefixtures("https")
    def test_an_untrusted_endpoint_is_refused_with_a_way_out(self, run: Run) -> None:
        done = run("http", "https://h.example/")
        assert done.code == 1
        assert "certificate of h.example is not trusted" in done.stderr
        assert "--insecure" in done.stderr

    @pytest.mark.usefixtures("https")
    def test_a_certificate_for_another_name_is_refused(self, run: Run, certificate: Path) -> None:
        assert run("http", "--cacert", str(certificate), "https://other.example/").code == 1

    @pytest.mark.usefixtures("https")
    def test_checking_can_be_left_out(self, run: Run) -> None:
        assert run("http", "-k", "https://h.example/").stdout == "ok\n"

    def test_an_endpoint_without_tls_is_told(self, run: Run, daemon: FakeDaemon) -> None:
        daemon.answers["dial"] = Dial(lambda sock: sock.sendall(OK))
        done = run("http", "-k", "https://h.example/")
        assert done.code == 1
        assert "no TLS with h.example" in done.stderr


def make_certificate(path: Path, name: str) -> Path:
    """A self-signed certificate and its key in one PEM file."""
    from datetime import UTC, datetime, timedelta

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    plain = serialization.NoEncryption()
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    return path
