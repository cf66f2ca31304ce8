"""Listening sockets that a process was started with."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tunneld import inherited as module
from tunneld.inherited import InheritedSockets, LentListener, take_from_environment


def tcp(host: str = "127.0.0.1") -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, 0), family=family)


def unix(path: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(str(path))
    sock.listen()
    return sock


@pytest.fixture
def registry() -> Iterator[InheritedSockets]:
    registry = InheritedSockets()
    yield registry
    registry.keep_only([])


def claimed(registry: InheritedSockets, address: str) -> int:
    """How many sockets answer to an address."""
    sockets = registry.claim(address)
    for sock in sockets:
        sock.close()
    return len(sockets)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_socket_answers_to_its_own_address_alone(registry: InheritedSockets, host: str) -> None:
    sock = tcp(host)
    port = sock.getsockname()[1]
    registry.add(sock)
    text = f"[{host}]" if ":" in host else host
    assert claimed(registry, f"{text}:{port}") == 1
    assert claimed(registry, f"{text}:{port - 1}") == 0
    assert claimed(registry, f"127.0.0.2:{port}") == 0
    assert claimed(registry, f":{port}") == 0
    assert claimed(registry, f"localhost:{port}") == 0
    assert claimed(registry, "unix:/run/x") == 0
    assert claimed(registry, "nonsense") == 0


def test_an_address_may_be_written_in_another_way(registry: InheritedSockets) -> None:
    sock = tcp("::1")
    registry.add(sock)
    assert claimed(registry, f"[0:0:0:0:0:0:0:1]:{sock.getsockname()[1]}") == 1


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_a_port_alone_is_any_socket_for_all_addresses(
    registry: InheritedSockets, host: str
) -> None:
    sock = tcp(host)
    registry.add(sock)
    assert claimed(registry, f":{sock.getsockname()[1]}") == 1


def test_a_unix_socket_answers_to_its_path(registry: InheritedSockets, tmp_path: Path) -> None:
    path = tmp_path / "x.sock"
    registry.add(unix(path), name="x")
    assert claimed(registry, f"unix:{path}") == 1
    assert claimed(registry, "unix:/run/other") == 0
    assert registry.is_unix("systemd:x")
    assert not registry.is_unix("systemd:y")


def test_sockets_of_one_name_belong_together(registry: InheritedSockets) -> None:
    registry.add(tcp(), name="edge")
    registry.add(tcp("::1"), name="edge")
    registry.add(tcp(), name="other")
    assert claimed(registry, "systemd:edge") == 2
    assert claimed(registry, "systemd:none") == 0
    assert registry.names == ["edge", "other"]


def test_what_is_lent_is_there_again_after_it_was_closed(registry: InheritedSockets) -> None:
    sock = tcp()
    registry.add(sock, name="edge")
    for _ in range(2):
        [heir] = registry.claim("systemd:edge")
        assert isinstance(heir, LentListener)
        with socket.create_connection(sock.getsockname()):
            heir.accept()[0].close()
        heir.close()


def test_what_is_not_lent_is_given_away_once(registry: InheritedSockets) -> None:
    sock = tcp()
    registry.add(sock, listen="127.0.0.1:0", lent=False)
    assert registry.claim("127.0.0.1:0") == [sock]
    assert registry.claim("127.0.0.1:0") == []
    sock.close()


def test_what_nobody_asks_for_is_closed_and_named(registry: InheritedSockets) -> None:
    stranger, wanted = tcp(), tcp()
    port = stranger.getsockname()[1]
    registry.add(stranger, name="old")
    registry.add(wanted, name="edge")
    assert registry.keep_only(["systemd:edge"]) == [f"old at 127.0.0.1:{port}"]
    assert stranger.fileno() == -1
    assert registry.names == ["edge"]
    assert registry.keep_only(["systemd:edge"]) == []


class Environment:
    """Descriptors from `first` on, and the variables about them."""

    def __init__(self, *descriptors: int, names: str = "", pid: int | None = None) -> None:
        self.first = 700
        for number, descriptor in enumerate(descriptors):
            os.dup2(descriptor, self.first + number, inheritable=True)
        self.variables = {
            "LISTEN_PID": str(os.getpid() if pid is None else pid),
            "LISTEN_FDS": str(len(descriptors)),
            "LISTEN_FDNAMES": names,
            "HOME": "/",
        }


@pytest.fixture(autouse=True)
def _far_from_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """The descriptors from 3 on are taken by whoever runs the tests."""
    monkeypatch.setattr(module, "_FIRST_DESCRIPTOR", 700)


def test_sockets_come_by_the_environment_with_their_names(
    registry: InheritedSockets, tmp_path: Path
) -> None:
    with tcp() as one, unix(tmp_path / "x") as other:
        environment = Environment(one.fileno(), other.fileno(), names="edge:control")
        assert take_from_environment(environment.variables, registry) == []
        assert environment.variables == {"HOME": "/"}
        assert registry.names == ["control", "edge"]
        assert not os.get_inheritable(700)
        [sock] = registry.claim("systemd:edge")
        assert sock.getsockname() == one.getsockname()
        sock.close()


def test_sockets_may_have_no_names(registry: InheritedSockets) -> None:
    with tcp() as sock:
        environment = Environment(sock.fileno())
        assert take_from_environment(environment.variables, registry) == []
        assert registry.names == []
        assert claimed(registry, f"127.0.0.1:{sock.getsockname()[1]}") == 1


def test_sockets_of_another_process_are_left_alone(registry: InheritedSockets) -> None:
    with tcp() as sock:
        environment = Environment(sock.fileno(), names="edge", pid=1)
        assert take_from_environment(environment.variables, registry) == []
        assert environment.variables == {"HOME": "/"}
        assert registry.names == []
        os.close(700)


@pytest.mark.parametrize("count", ["", "two", "-1", "²"])
def test_a_count_that_is_none_is_ignored(registry: InheritedSockets, count: str) -> None:
    variables = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": count}
    assert take_from_environment(variables, registry) == []


def test_descriptors_that_are_not_there_are_said(registry: InheritedSockets) -> None:
    variables = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1000000000"}
    [problem] = take_from_environment(variables, registry)
    assert problem == "descriptor 700 of 1000000000 from 3: Bad file descriptor"


def test_what_is_no_listening_socket_is_refused_and_closed(registry: InheritedSockets) -> None:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams,
        socket.socket() as silent,
        open(os.devnull, "rb") as file,  # noqa: PTH123 - a descriptor is meant
    ):
        environment = Environment(
            datagrams.fileno(), silent.fileno(), file.fileno(), names="udp:connected"
        )
        problems = take_from_environment(environment.variables, registry)
    assert problems[:2] == [
        f"{name}, descriptor {number}, is no listening stream socket of IP or UNIX;"
        " use ListenStream= and Accept=no"
        for name, number in (("udp", 700), ("connected", 701))
    ]
    assert problems[2].startswith("unnamed, descriptor 702, is no socket")
    for number in range(700, 703):
        with pytest.raises(OSError):
            os.fstat(number)
