"""Reading kubeconfig files that are none."""

from pathlib import Path

import pytest

from tunneld.configfile import ConfigError
from tunneld.kube.kubefile import Kubeconfig, read_kubeconfig


def mistake(path: Path, data: bytes) -> str:
    path.write_bytes(data)
    with pytest.raises(ConfigError) as caught:
        read_kubeconfig(path)
    [problem] = caught.value.problems
    assert caught.value.source == str(path)
    return str(problem)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "config"


def test_an_empty_config_is_one(path: Path) -> None:
    path.write_text("clusters: null\nusers: null\ncontexts: null\n")
    assert read_kubeconfig(path) == Kubeconfig()


def test_a_file_that_cannot_be_read_is_said(path: Path) -> None:
    with pytest.raises(ConfigError, match=r"config: cannot be read: No such file or directory"):
        read_kubeconfig(path)


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"\xff", "is not UTF-8 text: octet 0xff at offset 0"),
        (b"{", "is not JSON: Expecting property name"),
        (b"{" + b'"a":[' * 100_000, "is not JSON: "),
        (b"a: b: c", "is not YAML at line 1, column 5: mapping values are not allowed here"),
        (b"a: [", "is not YAML at line 1, column 5: "),
        (b"a: &x [*y]", "is not YAML at line 1, column 8"),
        (b"a: 2026-99-99", "is not YAML"),
        (b"a: \x01", "is not YAML"),
        (b"[" * 10_000, "is not YAML"),
        (b"a: 1\n---\nb: 2\n", "is not YAML at line 2, column 1"),
        (b"", "expected object, got null"),
        (b"text", "expected object, got str"),
        (b"users: 5", "users: expected array, got int"),
        (b"users: [5]", "users[0]: expected object, got int"),
        (b"users: [{}]", "users[0]: object missing required field name"),
        (b"users: [{name: a, user: {token: 12345}}]", "users[0].user.token: expected str, got int"),
        (b"kind: Pod\napiVersion: v1", 'has apiVersion "v1" and kind "Pod"'),
        (b"apiVersion: v2", 'has apiVersion "v2" and kind "Config"'),
    ],
)
def test_what_is_no_kubeconfig_is_said(path: Path, data: bytes, error: str) -> None:
    assert mistake(path, data).startswith(error)


@pytest.mark.parametrize(
    "data",
    [
        b"users: [{name: a, user: {token: [secret]}}]",
        b"users: [{name: a, user: {token: secret: x}}]",
        b'{"users": [{"name": "a", "user": {"token": "secret}}]}',
        b"users: [{name: a, user: {token: !secret x}}]",
    ],
)
def test_no_message_quotes_a_value(path: Path, data: bytes) -> None:
    assert "secret" not in mistake(path, data)
