"""Certificates in memory: what they say, and that a strict verifier takes them."""

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given
from hypothesis import strategies as st

from tunneld.certificate import (
    Credential,
    Kind,
    PkiError,
    Request,
    check_name,
    common_name,
    days_left,
    issue,
    kind_of,
    load,
    make_authority,
    parse_san,
    peer_request,
    read,
    san_text,
    sans_of,
    server_request,
    why_not_usable,
)

NOW = datetime(2030, 6, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def authority() -> Credential:
    return make_authority("test CA", NOW)


def extension(certificate: x509.Certificate, kind: type[x509.ExtensionType]) -> x509.Extension:  # type: ignore[type-arg]
    return certificate.extensions.get_extension_for_class(kind)


def test_authority_may_sign_leaves_and_nothing_else(authority: Credential) -> None:
    constraints = extension(authority.certificate, x509.BasicConstraints)
    usage = extension(authority.certificate, x509.KeyUsage)
    assert constraints.critical
    assert constraints.value == x509.BasicConstraints(ca=True, path_length=0)
    assert usage.critical
    assert usage.value.key_cert_sign
    assert not usage.value.digital_signature


def test_leaf_has_the_extensions_that_strict_verifiers_want(authority: Credential) -> None:
    leaf = issue(authority, server_request("server", ["2.2.2.2"]), NOW).certificate
    constraints = extension(leaf, x509.BasicConstraints)
    usage = extension(leaf, x509.KeyUsage)
    assert constraints.critical
    assert not constraints.value.ca
    assert usage.critical
    assert usage.value.digital_signature
    issuer_key = extension(leaf, x509.AuthorityKeyIdentifier).value.key_identifier
    assert issuer_key == extension(authority.certificate, x509.SubjectKeyIdentifier).value.digest
    assert extension(leaf, x509.SubjectKeyIdentifier).value.digest != issuer_key
    assert isinstance(leaf.public_key(), ec.EllipticCurvePublicKey)


@pytest.mark.parametrize(
    ("request_", "purpose", "kind"),
    [
        (server_request("s", ["s"]), ExtendedKeyUsageOID.SERVER_AUTH, Kind.SERVER),
        (peer_request(Kind.AGENT, "a"), ExtendedKeyUsageOID.CLIENT_AUTH, Kind.AGENT),
        (peer_request(Kind.CLIENT, "c"), ExtendedKeyUsageOID.CLIENT_AUTH, Kind.CLIENT),
    ],
)
def test_leaf_is_for_its_kind_alone(
    authority: Credential, request_: Request, purpose: x509.ObjectIdentifier, kind: Kind
) -> None:
    leaf = issue(authority, request_, NOW).certificate
    assert list(extension(leaf, x509.ExtendedKeyUsage).value) == [purpose]
    assert kind_of(leaf) is kind
    assert kind_of(authority.certificate) is Kind.CA


def test_agent_is_bound_to_its_id_by_name_and_uri(authority: Credential) -> None:
    leaf = issue(authority, peer_request(Kind.AGENT, "demo"), NOW).certificate
    assert common_name(leaf) == "demo"
    assert sans_of(leaf) == ("URI:spiffe://tunneld/agent/demo",)


def test_leaf_never_outlives_its_authority(authority: Credential) -> None:
    late = NOW + timedelta(days=3649)
    leaf = issue(authority, server_request("s", ["s"]), late).certificate
    assert leaf.not_valid_after_utc == authority.certificate.not_valid_after_utc
    assert days_left(leaf, late) == 1


def test_expired_authority_issues_nothing(authority: Credential) -> None:
    with pytest.raises(PkiError, match="'test CA' expired on 2040-05-29"):
        issue(authority, server_request("s", ["s"]), NOW + timedelta(days=3651))


def test_certificate_is_already_valid_for_a_peer_with_a_slow_clock(authority: Credential) -> None:
    leaf = issue(authority, server_request("s", ["s"]), NOW).certificate
    assert leaf.not_valid_before_utc == NOW - timedelta(hours=1)


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("2.2.2.2", "IP:2.2.2.2"),
        ("2001:db8::1", "IP:2001:db8::1"),
        ("[2001:db8::1]", "IP:2001:db8::1"),
        ("edge.example.org", "DNS:edge.example.org"),
        ("*.example.org", "DNS:*.example.org"),
        ("dns:Edge", "DNS:Edge"),
        ("IP:127.0.0.1", "IP:127.0.0.1"),
        ("URI:spiffe://x/y", "URI:spiffe://x/y"),
    ],
)
def test_san_is_read_as_what_it_looks_like(text: str, canonical: str) -> None:
    assert san_text(parse_san(text)) == canonical


@pytest.mark.parametrize(
    "text", ["", "a b", "IP:example", "a..b", "DNS:", "x" * 64, "bücher.example", "2.2.2.2:8090"]
)
def test_san_that_is_none_is_refused_with_what_to_give(text: str) -> None:
    with pytest.raises(PkiError, match="not a subject alternative name") as caught:
        parse_san(text)
    assert "IP address" in caught.value.hint


@given(st.text())
def test_any_text_is_a_san_or_an_error(text: str) -> None:
    try:
        canonical = san_text(parse_san(text))
    except PkiError:
        return
    assert san_text(parse_san(canonical)) == canonical


@pytest.mark.parametrize("name", ["", "a/b", "..", ".hidden", "-x", "a b", "x" * 65, "ä", "a\n"])
def test_name_that_is_no_file_name_is_refused(name: str) -> None:
    with pytest.raises(PkiError, match="cannot be the name of a certificate"):
        check_name(name)


def test_what_was_written_is_read_back(authority: Credential) -> None:
    again = load(authority.certificate_pem(), authority.key_pem())
    assert again.certificate == authority.certificate
    assert again.key.private_numbers() == authority.key.private_numbers()


def test_key_of_another_certificate_is_refused(authority: Credential) -> None:
    other = make_authority("other CA", NOW)
    with pytest.raises(ValueError, match="do not belong together"):
        load(authority.certificate_pem(), other.key_pem())


def pem(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey, password: bytes) -> bytes:
    protection: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if password:
        protection = serialization.BestAvailableEncryption(password)
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, protection
    )


def test_unusable_keys_are_told_apart(authority: Credential) -> None:
    certificate = authority.certificate_pem()
    with pytest.raises(ValueError, match="its key is encrypted"):
        load(certificate, pem(authority.key, b"secret"))
    with pytest.raises(ValueError, match="its key is not an EC key"):
        load(certificate, pem(rsa.generate_private_key(65537, 2048), b""))
    with pytest.raises(ValueError, match="its key is not a PEM private key"):
        load(certificate, b"garbage")


@given(st.binary())
def test_garbage_is_no_certificate(data: bytes) -> None:
    with pytest.raises(ValueError, match="not a PEM certificate"):
        read(data)


def test_usable_certificate_has_nothing_against_it(authority: Credential) -> None:
    leaf = issue(authority, server_request("s", ["a.example", "2.2.2.2"]), NOW).certificate
    fewer = server_request("s", ["2.2.2.2"])
    assert why_not_usable(leaf, authority.certificate, fewer) == ""


def test_unusable_certificate_says_why(authority: Credential) -> None:
    def why(request: Request, by: Credential = authority) -> str:
        leaf = issue(authority, peer_request(Kind.AGENT, "demo"), NOW).certificate
        return why_not_usable(leaf, by.certificate, request)

    assert why(server_request("demo", ["x"])) == "it is of kind agent"
    assert why(peer_request(Kind.AGENT, "other")) == "it names 'demo'"
    assert why(peer_request(Kind.AGENT, "demo", ["2.2.2.2"])) == "it lacks IP:2.2.2.2"
    same_name = make_authority("test CA", NOW)
    assert why(peer_request(Kind.AGENT, "demo"), same_name) == "another CA signed it"


def check_handshake(server: ssl.SSLContext, client: ssl.SSLContext, server_name: str) -> None:
    """A whole TLS handshake in memory, and one octet, since in TLS 1.3 a client learns only from
    its first read that its certificate was refused."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(to_client, to_server, server_hostname=server_name),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    waiting = [end.do_handshake for end in ends]
    for _ in range(10):
        for step in list(waiting):
            try:
                step()
            except ssl.SSLWantReadError:
                continue
            waiting.remove(step)
    assert not waiting
    ends[1].write(b"!")
    assert ends[0].read(1) == b"!"


def strict_context(
    purpose: ssl.Purpose, own: Credential, authority: Credential, directory: Path
) -> ssl.SSLContext:
    context = ssl.create_default_context(
        purpose, cadata=authority.certificate_pem().decode("ascii")
    )
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    context.verify_mode = ssl.CERT_REQUIRED
    path = directory / "own.pem"
    path.write_bytes(own.certificate_pem() + own.key_pem())
    context.load_cert_chain(path)
    return context


def contexts(
    authority: Credential, peer: Request, directory: Path
) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    now = datetime.now(UTC)
    server = issue(authority, server_request("server", ["localhost", "2.2.2.2"]), now)
    return (
        strict_context(ssl.Purpose.CLIENT_AUTH, server, authority, directory),
        strict_context(ssl.Purpose.SERVER_AUTH, issue(authority, peer, now), authority, directory),
    )


@pytest.fixture(scope="module")
def fresh() -> Credential:
    return make_authority("fresh CA", datetime.now(UTC))


@pytest.mark.parametrize("server_name", ["localhost", "2.2.2.2"])
@pytest.mark.parametrize("kind", [Kind.AGENT, Kind.CLIENT])
def test_strict_openssl_takes_both_ends(
    fresh: Credential, tmp_path: Path, server_name: str, kind: Kind
) -> None:
    check_handshake(*contexts(fresh, peer_request(kind, "peer"), tmp_path), server_name)


def test_server_is_refused_under_a_name_it_does_not_have(fresh: Credential, tmp_path: Path) -> None:
    ends = contexts(fresh, peer_request(Kind.AGENT, "a"), tmp_path)
    with pytest.raises(ssl.SSLCertVerificationError, match="mismatch"):
        check_handshake(*ends, "2.2.2.3")


def test_server_certificate_is_refused_as_a_clients(fresh: Credential, tmp_path: Path) -> None:
    ends = contexts(fresh, server_request("server", ["localhost"]), tmp_path)
    with pytest.raises(ssl.SSLCertVerificationError, match="unsuitable certificate purpose"):
        check_handshake(*ends, "localhost")


def test_client_of_another_authority_is_refused(fresh: Credential, tmp_path: Path) -> None:
    server, _ = contexts(fresh, peer_request(Kind.AGENT, "a"), tmp_path)
    stranger = issue(
        make_authority("fresh CA", datetime.now(UTC)),
        peer_request(Kind.AGENT, "a"),
        datetime.now(UTC),
    )
    client = strict_context(ssl.Purpose.SERVER_AUTH, stranger, fresh, tmp_path)
    with pytest.raises(ssl.SSLCertVerificationError):
        check_handshake(server, client, "localhost")
