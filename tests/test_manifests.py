"""The manifests of docs/how-to/kubernetes fit together, and our programs take their arguments."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.docpages import ROOT, Block, in_language
from tests.test_packaging import PACKAGES
from tunneld.dropin import agent_flags, checks, server_flags
from tunneld.dropin.agent_flags import AgentOptions
from tunneld.dropin.flagtable import options, read
from tunneld.dropin.server_flags import ServerOptions

FOLDER = ROOT / "docs/how-to/kubernetes"
MANIFESTS = {
    path.stem: list(yaml.safe_load_all(path.read_text())) for path in FOLDER.glob("*.yaml")
}

API_VERSIONS = {
    "ClusterRoleBinding": "rbac.authorization.k8s.io/v1",
    "DaemonSet": "apps/v1",
    "EgressSelectorConfiguration": "apiserver.k8s.io/v1beta1",
    "Pod": "v1",
    "Role": "rbac.authorization.k8s.io/v1",
    "RoleBinding": "rbac.authorization.k8s.io/v1",
    "ServiceAccount": "v1",
}


def pod_of(name: str) -> dict[str, Any]:
    """The pod's spec of a manifest."""
    (manifest,) = MANIFESTS[name]
    spec: dict[str, Any] = manifest["spec"]
    return dict(spec["template"]["spec"]) if "template" in spec else spec


def container_of(name: str) -> dict[str, Any]:
    (container,) = pod_of(name)["containers"]
    return dict(container)


@pytest.fixture(autouse=True)
def _files_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    """The files that arguments name are elsewhere."""
    for module in (checks, server_flags, agent_flags):
        monkeypatch.setattr(module, "check_file", lambda path, problem: None)


def server_options() -> ServerOptions:
    container = container_of("server")
    assert container["command"] == ["proxy-server"]
    return options(ServerOptions, read(ServerOptions, container["args"]), {})


def agent_options() -> AgentOptions:
    container = container_of("agent")
    assert container["command"] == ["proxy-agent"]
    return options(AgentOptions, read(AgentOptions, container["args"]), {})


def every_object() -> Iterator[dict[str, Any]]:
    for objects in MANIFESTS.values():
        yield from objects


def test_manifests_are_of_the_kinds_that_there_are() -> None:
    assert set(MANIFESTS) == {"agent", "egress-selector", "rbac", "server"}
    for each in every_object():
        assert each["apiVersion"] == API_VERSIONS[each["kind"]]


def test_the_server_takes_its_arguments() -> None:
    assert server_flags.check(server_options()) == []


def test_the_agent_takes_its_arguments() -> None:
    assert agent_flags.check(agent_options()) == []


def test_server_and_agent_mean_the_same() -> None:
    server, agent = server_options(), agent_options()
    assert agent.proxy_server_port == server.agent_port
    assert agent.lease_namespace == server.lease_namespace
    assert agent.lease_label_selector == server.lease_label
    assert pod_of("agent")["serviceAccountName"] == server.agent_service_account
    (manifest,) = MANIFESTS["agent"]
    assert manifest["metadata"]["namespace"] == server.agent_namespace
    (volume,) = pod_of("agent")["volumes"]
    (token,) = volume["projected"]["sources"]
    assert token["serviceAccountToken"]["audience"] == server.authentication_audience
    (mount,) = container_of("agent")["volumeMounts"]
    path = f"{mount['mountPath']}/{token['serviceAccountToken']['path']}"
    assert agent.service_account_token_path == path


def test_the_api_server_finds_the_server_s_socket() -> None:
    (configuration,) = MANIFESTS["egress-selector"]
    (selection,) = configuration["egressSelections"]
    connection = selection["connection"]
    server = server_options()
    assert connection["transport"]["uds"]["udsName"] == server.uds_name
    assert connection["proxyProtocol"].lower() == server.mode


def test_probes_and_ports_are_those_of_the_flags() -> None:
    server = container_of("server")
    ports = {each["name"]: each["containerPort"] for each in server["ports"]}
    assert ports == {"agents": server_options().agent_port, "health": server_options().health_port}
    assert server["livenessProbe"]["httpGet"]["port"] == server_options().health_port
    agent = container_of("agent")
    assert [each["containerPort"] for each in agent["ports"]] == [
        agent_options().health_server_port
    ]


def test_a_pod_s_grace_period_is_longer_than_the_server_s() -> None:
    timeout = server_options().graceful_shutdown_timeout / 1e9
    assert 0 < timeout < pod_of("server")["terminationGracePeriodSeconds"]


@pytest.mark.parametrize("name", ["server", "agent"])
def test_files_of_arguments_are_in_mounted_volumes(name: str) -> None:
    container = container_of(name)
    mounted = [each["mountPath"] for each in container["volumeMounts"]]
    assert {each["name"] for each in container["volumeMounts"]} == {
        each["name"] for each in pod_of(name)["volumes"]
    }
    always = "/var/run/secrets/kubernetes.io/serviceaccount/"
    for argument in container["args"]:
        value = argument.partition("=")[2]
        if value.startswith("/") and not value.startswith(always):
            assert any(value == path or value.startswith(f"{path}/") for path in mounted), argument


def test_rights_are_given_to_whoever_there_is() -> None:
    accounts = {o["metadata"]["name"] for o in MANIFESTS["rbac"] if o["kind"] == "ServiceAccount"}
    roles = {o["metadata"]["name"] for o in MANIFESTS["rbac"] if o["kind"] == "Role"}
    for each in MANIFESTS["rbac"]:
        if each["kind"] == "RoleBinding":
            assert each["roleRef"]["name"] in roles
        for subject in each.get("subjects", []):
            assert subject["kind"] == "User" or subject["name"] in accounts


@pytest.mark.parametrize("block", in_language("yaml"))
def test_yaml_in_pages_parses(block: Block) -> None:
    assert yaml.safe_load(block.text)


def test_the_image_has_every_package() -> None:
    text = Path(FOLDER / "Dockerfile").read_text()
    assert re.findall(r"^COPY (\w+) /src/\1$", text, re.MULTILINE) == list(PACKAGES)
