"""TLS contexts from files, and what is said about files that are not right."""

import ssl
from pathlib import Path

import pytest

from tunneld.role import RoleError
from tunneld.tlscontext import client_context, server_context


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
