"""TLS contexts from PEM in memory."""

import ssl
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from tunneld.kube.tls import client_context, show, trust


def read(pki: Path, name: str) -> bytes:
    return (pki / "frontend" / name).read_bytes()


def test_a_client_trusts_nobody_before_it_is_told() -> None:
    context = client_context()
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert context.cert_store_stats()["x509"] == 0


def test_authorities_are_taken_from_pem_with_text_around_it(pki: Path) -> None:
    context = client_context()
    other = (pki / "agent" / "ca.crt").read_bytes()
    trust(context, "# Zürich\n".encode() + read(pki, "ca.crt") + b"# and\n" + other)
    assert context.cert_store_stats()["x509_ca"] == 2


@pytest.mark.parametrize("data", [b"", b"garbage", b"-----BEGIN CERTIFICATE-----\nAAAA\n"])
def test_authorities_that_are_no_pem_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="holds no certificates, expected PEM"):
        trust(client_context(), data)


def test_a_certificate_is_shown_with_its_key(pki: Path) -> None:
    show(client_context(), read(pki, "client.crt"), read(pki, "client.key"))


def test_a_certificate_and_a_key_must_belong_together(pki: Path) -> None:
    for certificate, key in (
        (read(pki, "client.crt"), read(pki, "server.key")),
        (read(pki, "client.crt"), b"garbage"),
        (b"", read(pki, "client.key")),
    ):
        with pytest.raises(ValueError, match="expected PEM that belongs together"):
            show(client_context(), certificate, key)


def test_an_encrypted_key_is_refused_and_nobody_is_asked_for_a_password(pki: Path) -> None:
    key = load_pem_private_key(read(pki, "client.key"), None)
    locked = key.private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"password")
    )
    with pytest.raises(ValueError, match="the key is encrypted, expected one that is not"):
        show(client_context(), read(pki, "client.crt"), locked)
