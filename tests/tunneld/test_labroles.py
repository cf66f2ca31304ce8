from collections.abc import Mapping
from pathlib import Path

import pytest

from ctl.messages import ControlError
from netns import Topology, builtin_topology, parse_topology
from tunneld.config import AgentConfig, EchoConfig, ServerConfig
from tunneld.labroles import agent_id, lab_roles, next_commands, role_name, server_hosts
from tunneld.pki import Pki

DEMO = builtin_topology("demo")


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("pki")
    Pki(directory).init(server_hosts(DEMO))
    return directory


def topology(*roles: Mapping[str, object]) -> Topology:
    return parse_topology({"name": "t", "namespace": [{"name": "one"}], "role": list(roles)})


def test_roles_of_the_demo_lab_keep_their_names(pki: Path) -> None:
    roles = lab_roles(DEMO, "demo", pki, pki)
    assert [(role.name, role.namespace) for role in roles] == [
        ("server", "public"),
        ("agent", "private"),
        ("grpc", "private"),
        ("http", "private"),
        ("echo", "private"),
        ("dns", "private"),
    ]
    server, agent = roles[:2]
    assert isinstance(server, ServerConfig)
    assert server.tunnel.cert == str(pki / "agent" / "server.crt")
    assert isinstance(agent, AgentConfig)
    assert (agent.agent_id, agent.drain_timeout) == ("demo", 2)


def test_roles_of_another_lab_are_named_for_it(pki: Path) -> None:
    roles = lab_roles(DEMO, "x", pki, pki)
    assert (roles[0].name, roles[0].namespace) == ("x/server", "x-public")
    assert role_name("x", "server") == "x/server"


def test_certificates_are_for_the_servers_addresses_and_the_agents_id() -> None:
    assert server_hosts(DEMO) == ["2.2.2.2"]
    assert agent_id(DEMO) == "demo"
    assert agent_id(topology()) == "demo"


def test_the_variable_is_replaced_at_any_depth(tmp_path: Path) -> None:
    dns = {"kind": "dns", "name": "d", "namespace": "one", "records": {"${pki}": ["${pki}"]}}
    with pytest.raises(ControlError) as caught:
        lab_roles(topology(dns), "demo", tmp_path, Path("/certificates"))
    assert "'/certificates' does not appear to be an IPv4" in caught.value.message


@pytest.mark.parametrize(
    ("role", "says"),
    [
        ({"kind": "echo", "name": "e", "namespace": "two"}, "in namespace 'two'"),
        ({"kind": "echo", "name": "e"}, "in namespace None"),
        ({"kind": "ecco", "name": "e", "namespace": "one"}, "did you mean echo?"),
        ({"kind": "echo", "name": "e", "namespace": "one", "lisen": ""}, "did you mean listen?"),
    ],
)
def test_mistakes_in_a_topologys_roles_are_told(
    tmp_path: Path, role: dict[str, object], says: str
) -> None:
    with pytest.raises(ControlError) as caught:
        lab_roles(topology(role), "demo", tmp_path, tmp_path)
    assert caught.value.code == "bad_request"
    assert says in caught.value.message


def test_three_commands_to_try_fit_the_lab(pki: Path) -> None:
    assert next_commands("demo", lab_roles(DEMO, "demo", pki, pki)) == [
        "tunnelctl grpc 192.168.1.2:4001 --name demo",
        "tunnelctl http http://192.168.1.2:8080/ok",
        "tunnelctl ns check",
    ]
    assert next_commands("x", lab_roles(DEMO, "x", pki, pki))[0] == (
        "tunnelctl grpc --server x/server 192.168.1.2:4001 --name demo"
    )
    assert next_commands("x", []) == [
        "tunnelctl ns check --name x",
        "tunnelctl ns graph --name x",
        "tunnelctl role list",
    ]
    echo = EchoConfig(name="e", namespace="one")
    assert next_commands("demo", [echo])[0] == "tunnelctl ns check"
