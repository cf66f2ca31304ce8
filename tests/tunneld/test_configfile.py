import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tunneld.config import AgentConfig, DnsConfig, ServerConfig
from tunneld.configfile import ConfigError, load_config, load_roles
from tunneld.pki import Pki
from tunneld.registrar import Registrar

Write = Callable[[str], Path]

SERVER = """
[[role]]
kind = "server"
name = "edge"
policy = { open = true }

[[role.frontends]]
listen = "127.0.0.1:0"
cert = "frontend/server.crt"
key = "frontend/server.key"
client-ca = "frontend/ca.crt"

[[role.frontends]]
listen = "unix:edge.sock"

[role.tunnel]
listen = "127.0.0.1:0"
cert = "agent/server.crt"
key = "agent/server.key"
client-ca = "agent/ca.crt"
"""
AGENT = """
[[role]]
kind = "agent"
name = "home"
policy = { open = true }
server = "edge.example.org:8091"
cert = "agent/agent.crt"
key = "agent/agent.key"
ca = "agent/ca.crt"
"""


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("pki")
    Pki(directory).init()
    return directory


@pytest.fixture
def write(tmp_path: Path, certificates: Path) -> Write:
    """Writes a configuration file into a directory that has certificates."""
    for side in ("frontend", "agent"):
        shutil.copytree(certificates / side, tmp_path / side)

    def write(text: str) -> Path:
        path = tmp_path / "tunneld.toml"
        path.write_text(text, "utf-8")
        return path

    return write


def problems_of(path: Path) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert caught.value.source == str(path)
    assert all(line.startswith(f"{path}: ") for line in str(caught.value).splitlines())
    return [str(problem) for problem in caught.value.problems]


def test_file_names_start_at_the_directory_of_the_file(write: Write, tmp_path: Path) -> None:
    server, agent = load_config(write(SERVER + AGENT)).role
    assert isinstance(server, ServerConfig)
    assert isinstance(agent, AgentConfig)
    assert server.frontends[0].cert == str(tmp_path / "frontend/server.crt")
    assert server.frontends[1].listen == f"unix:{tmp_path}/edge.sock"
    assert server.frontends[1].cert == ""
    assert server.tunnel.client_ca == str(tmp_path / "agent/ca.crt")
    assert agent.ca == str(tmp_path / "agent/ca.crt")


def test_an_empty_file_is_a_daemon_without_roles(write: Write) -> None:
    assert load_config(write("")).role == ()


def test_every_mistake_is_reported_with_its_path(write: Write) -> None:
    path = write(
        """
        rolle = 1
        [[role]]
        kind = "server"
        name = "edge"
        policy = { open = true }
        frontends = [{ listen = 8090, ky = "x" }, 7]
        dial-timeout = -1
        [[role]]
        kind = "agnt"
        [[role]]
        name = "lost"
        """
    )
    assert problems_of(path) == [
        "rolle: unknown key, did you mean role?",
        "role[0].frontends[0].ky: unknown key, did you mean key?",
        "role[0].frontends[0].listen: expected str, got int, seen 8090",
        "role[0].frontends[1]: expected a table, got 7",
        "role[0].tunnel: is missing",
        "role[0].dial-timeout: expected float >= 0.0, seen -1",
        'role[1].kind: unknown role "agnt", did you mean agent?',
        "role[2].kind: is missing, expected one of server, agent, greeter, http, echo, dns",
    ]


def test_a_key_like_no_other_gets_the_list_of_keys(write: Write) -> None:
    (problem,) = problems_of(write('[[role]]\nkind = "echo"\nname = "e"\nqqq = 1\n'))
    assert problem == "role[0].qqq: unknown key, expected one of kind, listen, name, namespace"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"[[role]\n", "is not TOML: .*line 1"),
        (b"\xff\xfe", "is not UTF-8 text: octet 0xff at offset 0"),
        (b"role = 3", "expected an array of tables"),
        (b"role = [3]", r"role\[0\]: expected a table, got 3"),
        (b"[[role]]\nkind = 3", "unknown role 3"),
    ],
)
def test_what_is_no_configuration_is_refused(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "tunneld.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=says):
        load_config(path)


def test_a_missing_file_is_refused_with_the_reason(tmp_path: Path) -> None:
    assert problems_of(tmp_path / "none.toml") == ["cannot be read: No such file or directory"]


@pytest.mark.parametrize(
    ("before", "after", "problem"),
    [
        (
            "127.0.0.1:0",
            "127.0.0.1",
            (
                "role[0].frontends[0].listen: '127.0.0.1' has no port; expected HOST:PORT, as in "
                "192.168.1.2:4001"
            ),
        ),
        (
            "127.0.0.1:0",
            "127.0.0.1:70000",
            "role[0].frontends[0].listen: port 70000 is out of range; expected 0-65535",
        ),
        (
            "unix:edge.sock",
            "unix:none/edge.sock",
            "role[0].frontends[1].listen: directory DIR/none does not exist, make it first",
        ),
        (
            'listen = "unix:edge.sock"',
            'listen = "unix:edge.sock"\nkey = "x"',
            "role[0].frontends[1].key: is not for a UNIX socket, which is plain; remove it",
        ),
        (
            'client-ca = "frontend/ca.crt"',
            "",
            "role[0].frontends[0].client-ca: is missing, as is secrets: one of them has to tell",
        ),
        (
            "frontend/server.crt",
            "frontend/none.crt",
            "role[0].frontends[0].cert: cannot read DIR/frontend/none.crt: No such file",
        ),
        (
            "frontend/server.key",
            "agent/server.key",
            "role[0].frontends[0].cert: DIR/frontend/server.crt and DIR/agent/server.key are no",
        ),
        (
            "agent/ca.crt",
            "agent/ca.key",
            "role[0].tunnel.client-ca: DIR/agent/ca.key holds no PEM certificate",
        ),
        (
            '"edge"',
            '"the edge"',
            "role[0].name: 'the edge' is no name, expected 1-64 letters, digits,",
        ),
        (
            'name = "edge"',
            'name = "edge"\nnamespace = "../x"',
            "role[0].namespace: '../x' is no name, expected 1-64 letters, digits,",
        ),
    ],
)
def test_a_server_is_checked(
    write: Write, tmp_path: Path, before: str, after: str, problem: str
) -> None:
    path = write(SERVER.replace(before, after, 1))
    (seen,) = problems_of(path)
    assert seen.startswith(problem.replace("DIR", str(tmp_path)))


def test_a_server_needs_a_frontend(write: Write) -> None:
    head, *_, tunnel = SERVER.split("\n\n")
    (problem,) = problems_of(write(f"{head}\nfrontends = []\n{tunnel}"))
    assert problem.startswith("role[0].frontends: is empty")


@pytest.mark.parametrize(
    ("extra", "says"),
    [
        ("backoff-min = 31", "backoff-min: 31.0 is more than backoff-max, 30.0"),
        ('identifiers = "hots=a"', "identifiers: unknown kind 'hots'"),
        ('namespace = ""', "namespace: '' is no name"),
        ("keepalive = nan", "keepalive: expected float > 0.0, seen NaN"),
        ("sync-interval = 11", "sync-interval: 11.0 is more than sync-interval-cap, 10.0"),
        ('alpn = ["x", ""]', "alpn[1]: '' must have 1 to 255 octets"),
        ('token-path = "no/such"', "token-path: cannot read "),
    ],
)
def test_an_agent_is_checked(write: Write, extra: str, says: str) -> None:
    (problem,) = problems_of(write(AGENT + extra))
    assert problem.startswith(f"role[0].{says}")


def test_an_agent_needs_a_port_that_can_be_dialled(write: Write) -> None:
    path = write(AGENT.replace(":8091", ":0"))
    assert problems_of(path) == ["role[0].server: port 0 is out of range; expected 1-65535"]


def test_an_empty_certificate_name_is_no_file(write: Write) -> None:
    path = write(AGENT.replace('"agent/agent.key"', '""'))
    assert problems_of(path) == ["role[0].key: is empty, expected a file name"]


def test_an_agent_may_go_without_a_certificate_but_not_without_an_id(
    write: Write, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text("secret")
    bare = AGENT.replace('cert = "agent/agent.crt"\nkey = "agent/agent.key"\n', "")
    assert problems_of(write(bare)) == [
        "role[0].agent-id: is missing, there is no cert to take it from"
    ]
    (agent,) = load_config(write(bare + 'agent-id = "home"\ntoken-path = "token"')).role
    assert isinstance(agent, AgentConfig)
    assert agent.token_path == str(tmp_path / "token")


def test_records_are_addresses(write: Write) -> None:
    path = write(
        '[[role]]\nkind = "dns"\nname = "dns"\nrecords = { a = "1.2.3", b = [], c = ["::1"] }'
    )
    assert problems_of(path) == [
        "role[0].records.a: '1.2.3' does not appear to be an IPv4 or IPv6 address",
        "role[0].records.b: has no address",
    ]


def test_names_and_addresses_are_taken_once(write: Write) -> None:
    echo = '[[role]]\nkind = "echo"\nname = "echo"\nlisten = "127.0.0.1:7000"\n'
    assert problems_of(write(echo + echo)) == [
        "role[1].name: 'echo' is taken by role[0].name, choose another",
        "role[1].listen: '127.0.0.1:7000' is taken by role[0].listen, choose another",
    ]


@pytest.mark.parametrize("extra", ["", "reuse-port = true"])
def test_several_processes_need_a_port_to_share(write: Write, extra: str) -> None:
    several = f'name = "edge"\nprocesses = 2\n{extra}'
    path = write(SERVER.replace('name = "edge"', several))
    text = "127.0.0.1:0: 2 processes need a port to share"
    assert problems_of(path) == [
        f"role[0].frontends[0].listen: {text}",
        f"role[0].tunnel.listen: {text}",
    ]


def test_ports_may_be_shared_by_those_who_say_so(write: Write) -> None:
    server = SERVER.replace("127.0.0.1:0", "127.0.0.1:7000", 1)
    other = server.replace('"edge"', '"other"')
    (problem, unix) = problems_of(write(server + other))
    assert "role[1].frontends[0].listen: '127.0.0.1:7000' is taken" in problem
    assert "role[1].frontends[1].listen" in unix
    shared = re.sub(r"^(name = .*)$", r"\1\nreuse-port = true", server + other, flags=re.MULTILINE)
    (unix,) = problems_of(write(shared))
    assert "role[1].frontends[1].listen" in unix


def test_how_sockets_are_inherited_is_no_address(write: Write) -> None:
    """It would be a frontend without TLS."""
    path = write(SERVER.replace('listen = "127.0.0.1:0"', 'listen = "fd:/7"', 1))
    (problem,) = problems_of(path)
    assert problem.startswith("role[0].frontends[0].listen: ")


def test_an_address_may_repeat_in_another_namespace(write: Write) -> None:
    echo = '[[role]]\nkind = "echo"\nlisten = "127.0.0.1:7000"\n'
    path = write(f'{echo}name = "a"\n{echo}name = "b"\nnamespace = "private"\n')
    assert [role.namespace for role in load_config(path).role] == [None, "private"]


def test_roles_of_a_topology_are_checked_alike(tmp_path: Path) -> None:
    tables = [{"kind": "dns", "name": "dns", "records": {"a.svc": ["1.2.3.4"]}}]
    (role,) = load_roles(tables, tmp_path, source="demo", at="roles")
    assert role == DnsConfig(name="dns", records={"a.svc": ("1.2.3.4",)})
    with pytest.raises(ConfigError, match=r"demo: roles\[0\]\.nam: unknown key"):
        load_roles([{"kind": "dns", "nam": "dns"}], tmp_path, source="demo", at="roles")


# -- sockets that systemd has opened ----------------------------------------------------------


def test_a_listener_may_be_a_socket_of_systemd(write: Write) -> None:
    text = SERVER.replace("127.0.0.1:0", "systemd:clients", 1).replace(
        "127.0.0.1:0", "systemd:8091"
    )
    [role] = load_config(write(text.replace("unix:edge.sock", "systemd:local"))).role
    assert isinstance(role, ServerConfig)
    listens = [each.listen for each in role.frontends]
    assert [*listens, role.tunnel.listen] == ["systemd:clients", "systemd:local", "systemd:8091"]


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("127.0.0.1:0", "systemd:", "'systemd:' has no name; expected systemd:NAME"),
        ("127.0.0.1:0", "systemd:a", "'systemd:a' is taken by role[0].frontends[0].listen"),
        (
            'name = "edge"',
            'name = "edge"\nnamespace = "public"',
            "systemd:b: inherited sockets are of the daemon's own namespace",
        ),
    ],
)
def test_a_socket_of_systemd_has_a_name_for_one_listener_of_the_host(
    write: Write, old: str, new: str, problem: str
) -> None:
    text = SERVER.replace("unix:edge.sock", "systemd:b").replace(old, new)
    with pytest.raises(ConfigError, match=re.escape(problem)):
        load_config(write(text))


def test_revocation_lists_are_checked_with_their_place(write: Write, tmp_path: Path) -> None:
    Registrar(tmp_path).refresh_lists()
    listed = 'client-ca = "agent/ca.crt"\n'
    good = SERVER.replace(listed, f'{listed}crl = ["agent/ca.crl"]\n')
    [server] = load_config(write(good)).role
    assert isinstance(server, ServerConfig)
    assert server.tunnel.crl == (str(tmp_path / "agent/ca.crl"),)
    (tmp_path / "bad.crl").write_text("nonsense")
    bad = SERVER.replace(listed, f'{listed}crl = ["agent/ca.crl", "bad.crl", "none.crl"]\n')
    with pytest.raises(ConfigError) as caught:
        load_config(write(bad))
    assert [problem.path for problem in caught.value.problems] == [
        "role[0].tunnel.crl[1]",
        "role[0].tunnel.crl[2]",
    ]


def test_a_unix_frontend_has_no_revocation_list(write: Write) -> None:
    text = SERVER.replace('listen = "unix:edge.sock"', 'listen = "unix:edge.sock"\ncrl = ["x"]')
    with pytest.raises(ConfigError, match=r"frontends\[1\]\.crl: is not for a UNIX socket"):
        load_config(write(text))


def test_watching_is_on_unless_it_is_turned_off(write: Write) -> None:
    assert load_config(write(AGENT)).watch
    assert not load_config(write(f"watch = false\n{AGENT}")).watch
    with pytest.raises(ConfigError, match="watch: expected"):
        load_config(write(f'watch = "no"\n{AGENT}'))


@pytest.mark.parametrize("value", ["-1", "true", '"1G"', "1.5", str(1 << 51)])
def test_the_memory_of_buffers_is_a_number_of_octets(tmp_path: Path, value: str) -> None:
    file = tmp_path / "tunneld.toml"
    file.write_text(f"buffer-memory = {value}\n")
    with pytest.raises(ConfigError, match="buffer-memory: expected octets, 0 to"):
        load_config(file)
    file.write_text("buffer-memory = 1_000_000\n")
    assert load_config(file).buffer_memory == 1_000_000


def test_log_and_admin_are_read(write: Write, tmp_path: Path) -> None:
    config = load_config(
        write('[log]\nformat = "json"\nlevel = "error"\n[admin]\nlisten = "unix:admin.sock"\n')
    )
    assert (config.log.format, config.log.level) == ("json", "error")
    assert config.admin is not None
    assert config.admin.listen == f"unix:{tmp_path}/admin.sock"


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ('[log]\nformat = "xml"', "log.format: "),
        ("[log]\ncolour = 1", "log.colour: unknown key"),
        ("[admin]\nopen = true", "admin.listen: is missing"),
        ('[admin]\nlisten = "9090"', "admin.listen: "),
        ('[admin]\nlisten = "0.0.0.0:9090"', "is not a loopback address.*set open = true"),
        ('[admin]\nlisten = ":9090"', "is not a loopback address"),
        ('[admin]\nlisten = "example.org:9090"', "is not a loopback address"),
        (f'[admin]\nlisten = "unix:/{"x" * 120}"', "admin.listen: a socket's path has 107"),
        ("log = 5", "log: expected a table"),
    ],
)
def test_mistakes_in_log_and_admin_are_reported(write: Write, table: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        load_config(write(table + "\n"))


@pytest.mark.parametrize("listen", ["127.0.0.1:9090", "[::1]:0", "localhost:9090"])
def test_loopback_addresses_need_no_leave(write: Write, listen: str) -> None:
    assert load_config(write(f'[admin]\nlisten = "{listen}"\n')).admin is not None
    opened = write('[admin]\nlisten = ":9090"\nopen = true\n')
    assert load_config(opened).admin is not None


def test_an_audit_file_starts_at_the_directory_of_the_file(write: Write, tmp_path: Path) -> None:
    server = SERVER.replace('name = "edge"', 'name = "edge"\naudit = "a/edge.audit"')
    agent = AGENT.replace('name = "home"', 'name = "home"\naudit = "home.audit"')
    edge, home = load_config(write(server + agent)).role
    assert isinstance(edge, ServerConfig)
    assert isinstance(home, AgentConfig)
    assert (edge.audit, home.audit) == (f"{tmp_path}/a/edge.audit", f"{tmp_path}/home.audit")
