"""TLS contexts from files, and what is said about files that are not right."""

import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from tunneld.pki import Side
from tunneld.registrar import Registrar
from tunneld.role import RoleError
from tunneld.tlscontext import client_context, server_context

_DER = serialization.Encoding.DER


def files(pki: Path, side: str, name: str) -> tuple[str, str, str]:
    directory = pki / side
    return tuple(str(directory / f) for f in (f"{name}.crt", f"{name}.key", "ca.crt"))  # type: ignore[return-value]


def test_a_listener_asks_for_certificates_and_takes_nothing_old(pki: Path) -> None:
    context = server_context(*files(pki, "frontend", "server"), ["h2"])
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert context.options & ssl.OP_NO_RENEGOTIATION
    assert context.num_tickets == 0
    old = [c for c in context.get_ciphers() if c["protocol"] == "TLSv1.2"]
    assert old
    assert all("ECDHE" in c["name"] for c in old)
    assert all("GCM" in c["name"] or "CHACHA20" in c["name"] for c in old)


def test_a_dialler_checks_names_against_its_ca_alone(pki: Path) -> None:
    context = client_context(*files(pki, "frontend", "client"), ["h2"])
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert len(context.get_ca_certs()) == 1


def test_without_a_ca_the_system_s_are_taken() -> None:
    context = client_context("", "", "", ["h2"])
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname


def test_a_file_that_is_not_right_is_named(pki: Path, tmp_path: Path) -> None:
    cert, key, ca = files(pki, "frontend", "server")
    other = files(pki, "agent", "server")[1]
    empty = tmp_path / "empty"
    empty.touch()
    for arguments, text in (
        ((str(tmp_path / "none"), key, ca), "certificate .*none.*: No such file"),
        ((cert, other, ca), "expected PEM files that belong together"),
        ((str(empty), key, ca), "expected PEM files that belong together"),
        ((cert, key, str(empty)), "CA certificates .*empty: .*expected PEM files"),
        ((cert, key, str(tmp_path / "none")), "CA certificates .*none: No such file"),
    ):
        with pytest.raises(RoleError, match=f"cannot use .*{text}") as caught:
            server_context(*arguments, [])
        assert "tunnelctl certs list" in str(caught.value)


def test_an_encrypted_key_is_refused_and_no_password_asked_for(pki: Path, tmp_path: Path) -> None:
    cert, key, ca = files(pki, "frontend", "server")
    plain = serialization.load_pem_private_key(Path(key).read_bytes(), None)
    locked = tmp_path / "locked.key"
    locked.write_bytes(
        plain.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    with pytest.raises(RoleError, match=r"cannot use certificate .*locked\.key"):
        server_context(cert, str(locked), ca, [])


def test_revocation_lists_are_taken_in_pem_and_der(tmp_path: Path) -> None:
    registrar = Registrar(tmp_path / "pki")
    registrar.init()
    registrar.refresh_lists()
    pem = registrar.list_path(Side.FRONTEND)
    der = tmp_path / "ca.der"
    der.write_bytes(x509.load_pem_x509_crl(pem.read_bytes()).public_bytes(_DER))
    for path in (pem, der):
        arguments = files(registrar.directory, "frontend", "server")
        context = server_context(*arguments, ["h2"], crls=[str(path)])
        assert context.verify_flags & ssl.VERIFY_CRL_CHECK_LEAF
        assert context.cert_store_stats()["crl"] == 1
        client = client_context(*files(registrar.directory, "frontend", "client"), ["h2"])
        assert shake_hands(client, context).version() == "TLSv1.3"
    assert not client.verify_flags & ssl.VERIFY_CRL_CHECK_LEAF


@pytest.mark.parametrize("octets", [None, b"", b"nonsense"])
def test_a_revocation_list_that_is_not_right_is_named(
    pki: Path, tmp_path: Path, octets: bytes | None
) -> None:
    path = tmp_path / "ca.crl"
    if octets is not None:
        path.write_bytes(octets)
    with pytest.raises(RoleError, match=r"cannot use certificate revocation list .*ca\.crl"):
        server_context(*files(pki, "frontend", "server"), [], crls=[str(path)])


def names_of(context: ssl.SSLContext, protocol: str) -> set[str]:
    return {c["name"] for c in context.get_ciphers() if c["protocol"] == protocol}


def test_ciphers_of_tls_1_2_may_be_chosen_by_their_iana_names(pki: Path) -> None:
    chosen = ["TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"]
    context = server_context(*files(pki, "frontend", "server"), ["h2"], "1.2", chosen)
    assert names_of(context, "TLSv1.2") == {
        "ECDHE-ECDSA-AES256-GCM-SHA384",
        "ECDHE-RSA-AES128-GCM-SHA256",
    }
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2


def test_ciphers_that_http2_forbids_are_left_out(pki: Path) -> None:
    chosen = ["TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA", "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"]
    context = server_context(*files(pki, "frontend", "server"), ["h2"], "1.2", chosen)
    assert names_of(context, "TLSv1.2") == {"ECDHE-RSA-AES128-GCM-SHA256"}


@pytest.mark.parametrize(
    "chosen", [["TLS_AES_128_GCM_SHA256"], ["TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA"]]
)
def test_where_no_cipher_of_tls_1_2_is_left_it_is_tls_1_3(pki: Path, chosen: list[str]) -> None:
    context = server_context(*files(pki, "frontend", "server"), ["h2"], "1.2", chosen)
    assert context.minimum_version is ssl.TLSVersion.TLSv1_3
    assert names_of(context, "TLSv1.3")


def test_tls_1_3_may_be_the_least(pki: Path) -> None:
    context = server_context(*files(pki, "frontend", "server"), ["h2"], "1.3")
    assert context.minimum_version is ssl.TLSVersion.TLSv1_3


def test_without_a_client_ca_no_certificate_is_asked_for(pki: Path) -> None:
    cert, key, _ = files(pki, "agent", "server")
    context = server_context(cert, key, "", ["h2"])
    assert context.verify_mode is ssl.CERT_NONE
    assert context.get_ca_certs() == []


def test_a_dialler_may_come_without_a_certificate(pki: Path) -> None:
    context = client_context("", "", files(pki, "agent", "agent")[2], ["h2"])
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert len(context.get_ca_certs()) == 1


@pytest.mark.parametrize(
    ("options", "version", "cipher"),
    [
        (("1.3", ()), "TLSv1.3", None),
        (
            ("1.2", ["TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256"]),
            "TLSv1.2",
            "ECDHE-ECDSA-CHACHA20-POLY1305",
        ),
    ],
)
def test_what_was_chosen_is_what_is_spoken(
    pki: Path, options: tuple[str, list[str]], version: str, cipher: str | None
) -> None:
    server = server_context(*files(pki, "frontend", "server"), ["h2"], *options)
    client = client_context(*files(pki, "frontend", "client"), ["h2"])
    if version == "TLSv1.2":
        client.maximum_version = ssl.TLSVersion.TLSv1_2
    tls = shake_hands(client, server)
    assert tls.version() == version
    assert cipher in (None, (tls.cipher() or ("",))[0])


def test_an_older_version_than_allowed_is_refused(pki: Path) -> None:
    server = server_context(*files(pki, "frontend", "server"), ["h2"], "1.3")
    client = client_context(*files(pki, "frontend", "client"), ["h2"])
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError):
        shake_hands(client, server)


def shake_hands(client: ssl.SSLContext, server: ssl.SSLContext) -> ssl.SSLObject:
    """The client's side of a handshake in memory."""
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    sides = [
        client.wrap_bio(back, there, server_hostname="127.0.0.1"),
        server.wrap_bio(there, back, server_side=True),
    ]
    for _ in range(4):
        for side in sides:
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                pass
    return sides[0]
