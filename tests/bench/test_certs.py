import ssl
from pathlib import Path

from cryptography import x509

from bench.certs import make_certificates


def test_certificates_are_signed_by_the_ca_of_their_side(tmp_path: Path) -> None:
    make_certificates(tmp_path)
    for side, peer in (("frontend", "client"), ("agent", "agent")):
        directory = tmp_path / side
        authority = x509.load_pem_x509_certificate((directory / "ca.crt").read_bytes())
        for name in ("server", peer):
            path = directory / f"{name}.crt"
            x509.load_pem_x509_certificate(path.read_bytes()).verify_directly_issued_by(authority)
            ssl.create_default_context().load_cert_chain(path, directory / f"{name}.key")
        assert (directory / "server.key").stat().st_mode & 0o077 == 0
