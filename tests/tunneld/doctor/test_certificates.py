"""Certificate files, each wrong in one way."""

from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from tests.tunneld.doctor.samples import only, verdicts, write_pair
from tunneld.certificate import Kind, load, utc_now
from tunneld.doctor.certificates import CLIENT, SERVER, authority, own_certificate, revocations
from tunneld.pki import Pki

GOOD = [("own", "pass"), ("own chain", "pass"), ("own key", "pass"), ("own key mode", "pass")]


def test_a_good_certificate_passes(pki: Path, tmp_path: Path) -> None:
    cert, key = write_pair(pki, tmp_path)
    found = list(own_certificate("own", cert, key, str(pki / "agent/ca.crt"), CLIENT))
    assert verdicts(found) == GOOD
    assert "364 days left" in found[0].detail
    assert "issued by CN=tunneld agent CA" in found[1].detail


@pytest.mark.parametrize(
    ("days", "age", "verdict", "words"),
    [
        (365, 0, "pass", "364 days left"),
        (30, 1, "warn", "28 days left"),
        (5, 6, "fail", "expired on"),
        (365, -2, "fail", "not valid before"),
    ],
)
def test_the_time_left_decides(
    pki: Path, tmp_path: Path, days: int, age: int, verdict: str, words: str
) -> None:
    cert, key = write_pair(pki, tmp_path, days=days, age=age)
    first = next(own_certificate("own", cert, key, "", CLIENT))
    assert (str(first.verdict), words in first.detail) == (verdict, True)
    assert bool(first.action) == (verdict != "pass")


def test_an_issuer_that_is_not_at_hand_is_no_mistake(pki: Path, tmp_path: Path) -> None:
    cert, key = write_pair(pki, tmp_path)
    found = list(own_certificate("own", cert, key, str(pki / "frontend/ca.crt"), CLIENT))
    assert verdicts(found) == GOOD
    assert "the other end knows" in found[1].detail


def test_a_key_of_another_certificate_fails(pki: Path, tmp_path: Path) -> None:
    cert, _ = write_pair(pki, tmp_path)
    found = list(own_certificate("own", cert, str(pki / "agent/agent.key"), "", CLIENT))
    assert ("own key", "fail") in verdicts(found)


def test_a_key_that_others_may_read_is_warned_of(pki: Path, tmp_path: Path) -> None:
    cert, key = write_pair(pki, tmp_path)
    Path(key).chmod(0o644)
    last = list(own_certificate("own", cert, key, "", CLIENT))[-1]
    assert (last.check, str(last.verdict)) == ("own key mode", "warn")
    assert last.action == f"chmod 600 {key}"


def test_a_client_s_certificate_is_none_for_a_server(pki: Path, tmp_path: Path) -> None:
    cert, key = write_pair(pki, tmp_path, Kind.AGENT)
    assert ("own purpose", "fail") in verdicts(own_certificate("own", cert, key, "", SERVER))


@pytest.mark.parametrize("content", [None, b"", b"nonsense"])
def test_what_is_no_certificate_is_the_only_finding(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "x.crt"
    if content is not None:
        path.write_bytes(content)
    assert verdicts(own_certificate("own", str(path), "k", "", CLIENT)) == [("own", "fail")]
    assert verdicts(authority("ca", str(path))) == [("ca", "fail")]


def test_of_several_cas_one_that_has_expired_does_not_count(pki: Path, tmp_path: Path) -> None:
    old, _ = write_pair(pki, tmp_path, days=5, age=6)
    both = tmp_path / "both.crt"
    both.write_bytes(Path(old).read_bytes() + (pki / "agent/ca.crt").read_bytes())
    found = only(authority("ca", str(both)))
    assert (str(found.verdict), "one of 2" in found.detail) == ("pass", True)
    assert str(only(authority("ca", old)).verdict) == "fail"


@pytest.mark.parametrize(("days", "verdict"), [(1, "pass"), (-1, "fail")])
def test_a_list_of_revocations_must_not_be_out_of_date(
    tmp_path: Path, days: int, verdict: str
) -> None:
    Pki(tmp_path / "pki").init()
    folder = tmp_path / "pki/agent"
    ca = load((folder / "ca.crt").read_bytes(), (folder / "ca.key").read_bytes())
    made = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(ca.certificate.subject)
        .last_update(utc_now() - timedelta(days=9))
        .next_update(utc_now() + timedelta(days=days))
        .sign(ca.key, hashes.SHA256())
    )
    for name, encoding in (("pem", Encoding.PEM), ("der", Encoding.DER)):
        path = tmp_path / f"crl.{name}"
        path.write_bytes(made.public_bytes(encoding))
        assert str(revocations("crl", str(path)).verdict) == verdict
    (tmp_path / "no").write_bytes(b"nonsense")
    assert str(revocations("crl", str(tmp_path / "no")).verdict) == "fail"
