"""Revoking and renewing certificates, and replacing a CA."""

from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509

from tunneld.certfile import read_crls
from tunneld.certificate import CRL_DAYS, Kind, PkiError, load, sans_of, utc_now
from tunneld.pki import OLD_CA, Entry, Side
from tunneld.registrar import Registrar


@pytest.fixture
def registrar(tmp_path: Path) -> Registrar:
    registrar = Registrar(tmp_path / "pki")
    registrar.init(["127.0.0.1"], "demo")
    return registrar


def certificate(registrar: Registrar, side: Side, name: str) -> x509.Certificate:
    path, key = registrar.certificate_path(side, name), registrar.key_path(side, name)
    return load(path.read_bytes(), key.read_bytes()).certificate


def crls(registrar: Registrar, side: Side = Side.AGENT) -> list[x509.CertificateRevocationList]:
    return read_crls(registrar.list_path(side).read_bytes())


def revoked(registrar: Registrar, side: Side = Side.AGENT) -> list[set[int]]:
    return [{each.serial_number for each in crl} for crl in crls(registrar, side)]


def entries(registrar: Registrar) -> list[Entry]:
    return [each for each in registrar.entries() if isinstance(each, Entry)]


def test_a_revoked_certificate_is_on_a_list_that_its_ca_signed(registrar: Registrar) -> None:
    path = registrar.revoke("agent/agent")
    assert path == registrar.directory / "agent/ca.crl"
    assert path.stat().st_mode & 0o777 == 0o600
    [crl] = crls(registrar)
    authority = certificate(registrar, Side.AGENT, "ca")
    assert crl.is_signature_valid(authority.public_key())  # type: ignore[arg-type]
    assert crl.issuer == authority.subject
    assert revoked(registrar) == [{certificate(registrar, Side.AGENT, "agent").serial_number}]
    left = crl.next_update_utc
    assert left is not None
    assert left - utc_now() > timedelta(days=CRL_DAYS - 1)
    assert not registrar.list_path(Side.FRONTEND).exists()


def test_lists_grow_and_their_numbers_too(registrar: Registrar) -> None:
    registrar.issue(Kind.AGENT, "other")
    registrar.revoke("agent/agent")
    registrar.revoke("other")
    registrar.revoke("other")
    registrar.refresh_lists()
    serials = {certificate(registrar, Side.AGENT, n).serial_number for n in ("agent", "other")}
    assert revoked(registrar) == [serials]
    number = crls(registrar)[0].extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
    assert number == 4
    assert revoked(registrar, Side.FRONTEND) == [set()]


def test_a_certificate_that_is_not_here_is_revoked_by_its_number(registrar: Registrar) -> None:
    registrar.revoke_serial(Side.FRONTEND, 0xABC)
    assert revoked(registrar, Side.FRONTEND) == [{0xABC}]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("nobody", "there is no certificate 'nobody'"),
        ("ca", "there is no certificate 'ca'"),
        ("server", "there are several certificates 'server'"),
    ],
)
def test_what_is_to_be_revoked_must_be_clear(registrar: Registrar, name: str, text: str) -> None:
    with pytest.raises(PkiError, match=text):
        registrar.revoke(name)


def test_a_list_that_cannot_be_read_is_left_as_it_is(registrar: Registrar) -> None:
    path = registrar.revoke("agent/agent")
    path.write_bytes(b"nonsense")
    with pytest.raises(PkiError, match="not a certificate revocation list in PEM or DER") as caught:
        registrar.refresh_lists()
    assert "who is revoked stands nowhere else" in caught.value.hint
    assert path.read_bytes() == b"nonsense"


def test_renewed_certificates_say_the_same(registrar: Registrar) -> None:
    old = {name: certificate(registrar, Side.AGENT, name) for name in ("server", "agent")}
    before = registrar.certificate_path(Side.FRONTEND, "client").read_bytes()
    paths = registrar.renew(["agent/server", "agent"])
    assert [path.name for path in paths] == ["server.crt", "agent.crt"]
    for name, was in old.items():
        now = certificate(registrar, Side.AGENT, name)
        assert now.serial_number != was.serial_number
        assert now.public_key() != was.public_key()
        assert (now.subject, sans_of(now)) == (was.subject, sans_of(was))
        for kind in (x509.KeyUsage, x509.ExtendedKeyUsage, x509.BasicConstraints):
            values = [c.extensions.get_extension_for_class(kind).value for c in (now, was)]
            assert values[0] == values[1]
    assert registrar.certificate_path(Side.FRONTEND, "client").read_bytes() == before
    assert len(registrar.renew()) == 4


def test_who_is_revoked_is_not_renewed(registrar: Registrar) -> None:
    registrar.revoke("agent/agent")
    with pytest.raises(PkiError, match="is revoked"):
        registrar.renew(["agent/agent"])
    assert [path.parent.name + "/" + path.stem for path in registrar.renew()] == [
        "frontend/client",
        "frontend/server",
        "agent/server",
    ]


def test_a_ca_is_replaced_in_three_steps(registrar: Registrar) -> None:
    registrar.revoke("agent/agent")
    old = certificate(registrar, Side.AGENT, "ca")
    path = registrar.add_authority(Side.AGENT)
    bundle = x509.load_pem_x509_certificates(path.read_bytes())
    assert bundle[1:] == [old]
    assert registrar.key_path(Side.AGENT, OLD_CA).stat().st_mode & 0o777 == 0o600
    serial = certificate(registrar, Side.AGENT, "agent").serial_number
    assert revoked(registrar) == [set(), {serial}]  # of the new one, of the old one
    with pytest.raises(PkiError, match="is being replaced already"):
        registrar.add_authority(Side.AGENT)
    with pytest.raises(PkiError, match="is signed by the old CA"):
        registrar.drop_authority(Side.AGENT)
    registrar.issue(Kind.AGENT, "agent", force=True)
    registrar.renew()
    for name in ("server", "agent"):
        certificate(registrar, Side.AGENT, name).verify_directly_issued_by(bundle[0])
    registrar.drop_authority(Side.AGENT)
    assert x509.load_pem_x509_certificates(path.read_bytes()) == bundle[:1]
    assert not registrar.key_path(Side.AGENT, OLD_CA).exists()
    assert revoked(registrar) == [set()]
    with pytest.raises(PkiError, match="is not being replaced"):
        registrar.drop_authority(Side.AGENT)


def test_each_ca_has_a_name_of_its_own(registrar: Registrar) -> None:
    names = []
    for _ in range(3):
        names.append(certificate(registrar, Side.FRONTEND, "ca").subject.rfc4514_string())
        registrar.add_authority(Side.FRONTEND)
        registrar.drop_authority(Side.FRONTEND, force=True)
    assert [name.partition(",")[0] for name in names] == [
        "CN=tunneld frontend CA",
        "CN=tunneld frontend CA G2",
        "CN=tunneld frontend CA G3",
    ]


def test_revoked_while_the_ca_is_replaced_counts_with_the_ca_that_signed(
    registrar: Registrar,
) -> None:
    old = certificate(registrar, Side.AGENT, "agent").serial_number
    registrar.add_authority(Side.AGENT)
    registrar.revoke("agent/agent")
    assert revoked(registrar) == [set(), {old}]
    registrar.issue(Kind.AGENT, "other")
    registrar.revoke("other")
    new = certificate(registrar, Side.AGENT, "other").serial_number
    assert revoked(registrar) == [{new}, {old}]


def test_a_ca_made_anew_has_a_list_of_its_own(registrar: Registrar) -> None:
    registrar.revoke("agent/agent")
    registrar.add_authority(Side.AGENT)
    registrar.init(force=True)
    assert revoked(registrar) == [set()]
    assert not registrar.key_path(Side.AGENT, OLD_CA).exists()
    [crl] = crls(registrar)
    authority = certificate(registrar, Side.AGENT, "ca")
    assert crl.is_signature_valid(authority.public_key())  # type: ignore[arg-type]


def test_a_certificate_of_another_ca_is_not_ours_to_revoke(
    registrar: Registrar, tmp_path: Path
) -> None:
    other = Registrar(tmp_path / "other")
    other.init()
    for path in (registrar.certificate_path, registrar.key_path):
        mine = path(Side.AGENT, "agent")
        mine.write_bytes((other.directory / "agent" / mine.name).read_bytes())
    with pytest.raises(PkiError, match="was signed by another CA"):
        registrar.revoke("agent/agent")


def test_lists_and_what_is_on_them_are_listed(registrar: Registrar) -> None:
    registrar.revoke("agent/agent")
    registrar.add_authority(Side.AGENT)
    found = {(each.name, each.kind, each.subject, each.revoked) for each in entries(registrar)}
    assert ("agent/agent", Kind.AGENT, "demo", True) in found
    assert ("agent/server", Kind.SERVER, "server", False) in found
    for name in ("tunneld agent CA", "tunneld agent CA G2"):
        assert ("agent/ca", Kind.CA, name, False) in found
        assert ("agent/ca.crl", Kind.CRL, name, False) in found


def test_the_names_of_cas_are_taken(registrar: Registrar) -> None:
    for name in ("ca", OLD_CA):
        with pytest.raises(PkiError, match="is the name of the CA itself"):
            registrar.issue(Kind.AGENT, name)
