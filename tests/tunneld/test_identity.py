"""Who a certificate says its holder is."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from tunneld.identity import agent_of_der, names_of, names_of_file


def certificate(common_names: list[str], sans: list[x509.GeneralName]) -> x509.Certificate:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, each) for each in common_names])
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=1))
    )
    if sans:
        builder = builder.add_extension(x509.SubjectAlternativeName(sans), critical=False)
    return builder.sign(key, hashes.SHA256())


@pytest.mark.parametrize(
    ("common_names", "sans", "names"),
    [
        (["demo"], [], ["demo"]),
        ([], [], []),
        (["demo"], [x509.DNSName("demo.example")], ["demo"]),
        (["demo"], [x509.UniformResourceIdentifier("spiffe://cluster/agent/home")], ["home"]),
        (
            ["demo"],
            [
                x509.UniformResourceIdentifier("spiffe://cluster/agent/home/"),
                x509.UniformResourceIdentifier("spiffe://cluster/agent/work"),
            ],
            ["home", "work"],
        ),
    ],
)
def test_uris_go_before_the_common_name(
    common_names: list[str], sans: list[x509.GeneralName], names: list[str]
) -> None:
    made = certificate(common_names, sans)
    assert names_of(made) == names
    assert agent_of_der(made.public_bytes(Encoding.DER))[0] == names


def test_no_certificate_has_no_names() -> None:
    assert agent_of_der(None) == ([], [])


def test_agents_of_one_last_segment_can_be_told_apart() -> None:
    """In somebody's mesh any service may end in a name of ours."""
    uris = [
        "spiffe://mesh/ns/prod/sa/home",
        "spiffe://tunneld/agent/home",
        "spiffe://tunneld/client/home",
    ]
    made = certificate([], [x509.UniformResourceIdentifier(uri) for uri in uris])
    names, whole = agent_of_der(made.public_bytes(Encoding.DER))
    assert names == ["home", "home"]
    assert whole == uris[:1]


def test_a_file_is_read(pki: Path, tmp_path: Path) -> None:
    assert names_of_file(pki / "agent/agent.crt") == ["demo"]
    with pytest.raises(OSError, match="No such file"):
        names_of_file(tmp_path / "missing.crt")
    with pytest.raises(ValueError, match="PEM"):
        names_of_file(pki / "agent/agent.key")
