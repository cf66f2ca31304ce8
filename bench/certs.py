"""The certificates of all targets: RSA 2048, which peers' own tools and most private CAs make.

DIRECTORY/frontend/   ca.crt, server.crt server.key, client.crt client.key
DIRECTORY/agent/      ca.crt, server.crt server.key, agent.crt agent.key
"""

import ipaddress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from bench.lab import SERVER_ADDRESS

AGENT_ID = "bench"
_SERVER = ExtendedKeyUsageOID.SERVER_AUTH
_CLIENT = ExtendedKeyUsageOID.CLIENT_AUTH
_LIFE = timedelta(days=7)


def make_certificates(directory: Path) -> None:
    """Two CAs, a server's certificate from each, a client's and an agent's."""
    for side, peer, name in (("frontend", "client", "bench"), ("agent", "agent", AGENT_ID)):
        authority = _Authority(directory / side, f"{side} CA")
        authority.issue("server", "server", _SERVER, ["localhost", "127.0.0.1", SERVER_ADDRESS])
        authority.issue(peer, name, _CLIENT, [])


class _Authority:
    def __init__(self, directory: Path, name: str) -> None:
        directory.mkdir(parents=True)
        self._directory = directory
        self._key = _make_key()
        self._name = _subject(name)
        usage = _usage(key_cert_sign=True, crl_sign=True)
        builder = _builder(self._name, self._name, self._key.public_key(), usage).add_extension(
            x509.BasicConstraints(ca=True, path_length=None), critical=True
        )
        self._write("ca", builder.sign(self._key, hashes.SHA256()), self._key)

    def issue(self, file: str, name: str, purpose: x509.ObjectIdentifier, hosts: list[str]) -> None:
        key = _make_key()
        usage = _usage(digital_signature=True, key_encipherment=True)
        builder = _builder(_subject(name), self._name, key.public_key(), usage).add_extension(
            x509.ExtendedKeyUsage([purpose]), critical=False
        )
        builder = builder.add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()),
            critical=False,
        )
        if hosts:
            names = x509.SubjectAlternativeName([_general_name(host) for host in hosts])
            builder = builder.add_extension(names, critical=False)
        self._write(file, builder.sign(self._key, hashes.SHA256()), key)

    def _write(self, name: str, certificate: x509.Certificate, key: rsa.RSAPrivateKey) -> None:
        encoding = serialization.Encoding.PEM
        (self._directory / f"{name}.crt").write_bytes(certificate.public_bytes(encoding))
        path = self._directory / f"{name}.key"
        path.touch(mode=0o600)
        path.write_bytes(
            key.private_bytes(
                encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )


def _make_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def _subject(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: rsa.RSAPublicKey, usage: x509.KeyUsage
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + _LIFE)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _usage(**given: bool) -> x509.KeyUsage:
    names = (
        "digital_signature",
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
        "key_cert_sign",
        "crl_sign",
        "encipher_only",
        "decipher_only",
    )
    return x509.KeyUsage(**{name: given.get(name, False) for name in names})
