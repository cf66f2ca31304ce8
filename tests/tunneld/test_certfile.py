"""What certificate files say."""

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from tunneld.certfile import certificate_facts, crl_fact, has_signed, read_crls
from tunneld.pki import Side
from tunneld.registrar import Registrar


@pytest.fixture
def registrar(tmp_path: Path) -> Registrar:
    registrar = Registrar(tmp_path / "pki")
    registrar.init(["127.0.0.1"], "demo")
    return registrar


def test_our_own_certificate_is_the_first_and_cas_are_all(registrar: Registrar) -> None:
    path = registrar.add_authority(Side.AGENT)
    data = path.read_bytes()
    assert [fact.subject for fact in certificate_facts("f", "cert", data)] == [
        "tunneld agent CA G2"
    ]
    assert [fact.subject for fact in certificate_facts("f", "ca", data)] == [
        "tunneld agent CA G2",
        "tunneld agent CA",
    ]


def test_lists_are_read_in_pem_and_in_der(registrar: Registrar) -> None:
    registrar.revoke("agent/agent")
    registrar.add_authority(Side.AGENT)
    pem = registrar.list_path(Side.AGENT).read_bytes()
    both = read_crls(b"a comment\n" + pem)
    assert [crl_fact("f", crl).revoked for crl in both] == [0, 1]
    assert read_crls(both[1].public_bytes(Encoding.DER)) == both[1:]


@pytest.mark.parametrize(
    "data", [b"", b"nonsense", b"-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n"]
)
def test_what_is_no_list_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="not a certificate revocation list"):
        read_crls(data)


def test_a_list_is_of_the_ca_that_signed_it(registrar: Registrar) -> None:
    registrar.refresh_lists()
    [crl] = read_crls(registrar.list_path(Side.AGENT).read_bytes())
    mine, other = (registrar._authority(side).certificate for side in (Side.AGENT, Side.FRONTEND))
    assert has_signed(mine, crl)
    assert not has_signed(other, crl)


def test_a_fact_reads_as_a_line(registrar: Registrar) -> None:
    data = registrar.certificate_path(Side.AGENT, "agent").read_bytes()
    [fact] = certificate_facts("f", "cert", data)
    assert str(fact) == (
        f"'demo' serial {f'{fact.serial:x}'[:8]}… until {fact.not_after:%Y-%m-%d %H:%M}"
    )
    registrar.revoke("agent/agent")
    [crl] = read_crls(registrar.list_path(Side.AGENT).read_bytes())
    assert str(crl_fact("f", crl)).startswith("1 revoked of 'tunneld agent CA', good until ")
