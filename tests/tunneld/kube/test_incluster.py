"""Finding the API from within a pod."""

import shutil
from pathlib import Path

import pytest

from tunneld.configfile import ConfigError
from tunneld.kube.incluster import in_cluster

ENVIRON = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "KUBERNETES_SERVICE_PORT": "443"}


@pytest.fixture
def account(tmp_path: Path, pki: Path) -> Path:
    """A service account's directory."""
    (tmp_path / "token").write_text("abc")
    (tmp_path / "namespace").write_text("kube-system\n")
    shutil.copy(pki / "frontend" / "ca.crt", tmp_path / "ca.crt")
    return tmp_path


def mistakes(environ: dict[str, str], directory: Path) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        in_cluster(environ, directory)
    assert caught.value.source == "in-cluster configuration"
    return [str(each) for each in caught.value.problems]


def test_a_pod_has_an_address_an_authority_a_token_and_a_namespace(account: Path) -> None:
    access = in_cluster(ENVIRON, account)
    assert access.server == "https://10.0.0.1:443"
    assert access.tls.cert_store_stats()["x509_ca"] == 1
    assert access.authorization() == "Bearer abc"
    assert access.namespace == "kube-system"


def test_the_token_is_read_again_after_it_was_rotated(account: Path) -> None:
    access = in_cluster(ENVIRON, account)
    (account / "token").write_text("def")
    assert access.authorization() == "Bearer def"


def test_an_ipv6_address_gets_brackets(account: Path) -> None:
    environ = {**ENVIRON, "KUBERNETES_SERVICE_HOST": "fd00::1"}
    assert in_cluster(environ, account).server == "https://[fd00::1]:443"


def test_a_pod_without_a_file_for_its_namespace_does_not_know_it(account: Path) -> None:
    (account / "namespace").unlink()
    assert in_cluster(ENVIRON, account).namespace == ""


def test_outside_a_pod_everything_missing_is_said(tmp_path: Path) -> None:
    hint = "is not set: outside a pod, name a kubeconfig file with --kubeconfig"
    assert mistakes({}, tmp_path / "none") == [
        f"KUBERNETES_SERVICE_HOST: {hint}",
        f"KUBERNETES_SERVICE_PORT: {hint}",
        f"{tmp_path}/none/ca.crt: cannot be read: No such file or directory",
        f"{tmp_path}/none/token: cannot be read: No such file or directory",
    ]


def test_values_that_are_not_right_are_refused(account: Path) -> None:
    (account / "ca.crt").write_text("garbage")
    (account / "token").write_text("")
    environ = {**ENVIRON, "KUBERNETES_SERVICE_PORT": "https"}
    assert mistakes(environ, account) == [
        'KUBERNETES_SERVICE_PORT: is "https", expected a port number',
        f"{account}/ca.crt: holds no certificates, expected PEM",
        f"{account}/token: is empty, expected a token",
    ]


def test_a_host_that_fits_no_url_is_refused(account: Path) -> None:
    environ = {**ENVIRON, "KUBERNETES_SERVICE_HOST": "a\nb"}
    assert "KUBERNETES_SERVICE_HOST" in mistakes(environ, account)[0]
