"""Finding an API and opening a client; what is said where the extra is not installed."""

import subprocess
import sys
from pathlib import Path

import pytest

from tunneld.configfile import ConfigError
from tunneld.kube import load_access, open_client

KUBECONFIG = """
apiVersion: v1
kind: Config
current-context: a
clusters: [{name: a, cluster: {server: "https://api:6443"}}]
contexts: [{name: a, context: {cluster: a}}]
"""


@pytest.fixture
def kubeconfig(tmp_path: Path) -> str:
    path = tmp_path / "config"
    path.write_text(KUBECONFIG)
    return str(path)


async def test_a_named_file_is_read_and_a_client_opened(kubeconfig: str) -> None:
    access = load_access(kubeconfig)
    assert access.server == "https://api:6443"
    async with open_client(access, qps=1, burst=1) as client:
        assert type(client).__name__ == "KubeClient"


def test_without_a_file_the_cluster_we_run_in_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(ConfigError, match="in-cluster configuration: KUBERNETES_SERVICE_HOST"):
        load_access("")


def test_a_proxy_in_the_environment_that_cannot_be_used_is_said(
    monkeypatch: pytest.MonkeyPatch, kubeconfig: str
) -> None:
    monkeypatch.setenv("ALL_PROXY", "ftp://127.0.0.1:21")
    with pytest.raises(ConfigError, match="environment: names a proxy that cannot be used: "):
        load_access(kubeconfig)


@pytest.mark.parametrize("module", ["httpx", "yaml"])
def test_a_package_that_is_missing_is_named_with_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, kubeconfig: str, module: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConfigError) as caught:
        load_access(kubeconfig)
    how = f"needs {module}, which is not installed: pip install 'tunneld[kubernetes]'"
    assert str(caught.value) == f"{kubeconfig}: {how}"


def test_the_extra_is_not_imported_before_it_is_needed() -> None:
    program = "import sys, tunneld.kube; print({'httpx', 'yaml'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert done.stdout == b"set()\n"
