import socket
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from ctl.client import Client
from ctl.messages import MAX_FRAME, PROTOCOL_VERSION, ControlError, Message, encode
from tests.ctl.fakedaemon import Dial, FakeDaemon, Raw, Stream, echo


def test_it_greets_and_keeps_what_the_daemon_says(daemon: FakeDaemon) -> None:
    with Client.connect(daemon.path) as client:
        assert client.server == {"version": PROTOCOL_VERSION, "server": "fake", "pid": 4711}


def test_a_request_gets_its_result(daemon: FakeDaemon) -> None:
    daemon.answers["status"] = {"pid": 1}
    with Client.connect(daemon.path) as client:
        assert client.request("status", {"a": 1}) == {"pid": 1}
        assert client.request("status") == {"pid": 1}
    assert daemon.calls == [("status", {"a": 1}), ("status", {})]


def test_a_refused_request_raises_what_the_daemon_said_and_the_next_one_works(
    daemon: FakeDaemon,
) -> None:
    daemon.answers["role.stop"] = ControlError("not_found", "no role x", "see role list")
    daemon.answers["status"] = {}
    with Client.connect(daemon.path) as client:
        with pytest.raises(ControlError, match="no role x") as caught:
            client.request("role.stop", {"name": "x"})
        assert (caught.value.code, caught.value.hint) == ("not_found", "see role list")
        assert client.request("status") == {}


def test_a_stream_gives_its_items_and_then_its_end(daemon: FakeDaemon) -> None:
    daemon.answers["ns.up"] = Stream([{"step": "a"}, {"step": "b"}], {"name": "demo"})
    with Client.connect(daemon.path) as client:
        stream = client.stream("ns.up")
        assert list(stream) == [{"step": "a"}, {"step": "b"}]
        assert stream.end == {"name": "demo"}


def test_a_stream_without_an_end_value_ends_with_an_empty_map(daemon: FakeDaemon) -> None:
    daemon.answers["role.logs"] = Stream([], None)
    with Client.connect(daemon.path) as client:
        stream = client.stream("role.logs")
        assert list(stream) == []
        assert stream.end == {}


def test_a_stream_may_fail_in_the_middle(daemon: FakeDaemon) -> None:
    daemon.answers["ns.up"] = Stream([{"step": "a"}], error=ControlError("exists", "there is one"))
    got: list[Message] = []
    with (
        Client.connect(daemon.path) as client,
        pytest.raises(ControlError, match="there is one"),
    ):
        got.extend(client.stream("ns.up"))
    assert got == [{"step": "a"}]


def test_a_dialled_connection_is_the_raw_stream_from_the_first_octet_on(
    daemon: FakeDaemon,
) -> None:
    def banner(sock: socket.socket) -> None:
        sock.sendall(b"SSH-2.0-fake\r\n")
        echo(sock)

    daemon.answers["dial"] = Dial(banner, {"peer": "p"})
    client = Client.connect(daemon.path)
    sock, result = client.dial({"host": "h", "port": 22, "server": None})
    with sock:
        assert result == {"peer": "p"}
        assert sock.recv(100) == b"SSH-2.0-fake\r\n"
        sock.sendall(b"hello")
        sock.shutdown(socket.SHUT_WR)
        assert sock.recv(100) == b"hello"
        assert sock.recv(100) == b""


def test_a_reply_and_raw_octets_in_one_piece_are_told_apart(daemon: FakeDaemon) -> None:
    reply = encode({"id": 2, "result": {"peer": "p"}})
    daemon.answers["dial"] = Raw(reply + b"raw octets")
    client = Client.connect(daemon.path)
    sock, _ = client.dial({"host": "h", "port": 22})
    with sock:
        assert sock.recv(100) == b"raw octets"


def refused(path: Path, timeout: float = 5.0) -> ControlError:
    with pytest.raises(ControlError) as caught:
        Client.connect(path, timeout)
    return caught.value


def test_no_socket_means_no_daemon(short_tmp: Path) -> None:
    error = refused(short_tmp / "none.sock")
    assert error.code == "no_daemon"
    assert error.hint == "start it with: tunneld start"


def test_a_stale_socket_means_no_daemon(short_tmp: Path) -> None:
    path = short_tmp / "stale.sock"
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))
    error = refused(path)
    assert error.code == "no_daemon"
    assert "nothing listens" in error.message


def test_a_file_that_is_no_socket_means_no_daemon(short_tmp: Path) -> None:
    (short_tmp / "file").touch()
    assert refused(short_tmp / "file").code == "no_daemon"
    assert refused(short_tmp / "file/c.sock").code == "no_daemon"


def test_a_daemon_that_does_not_answer_is_a_timeout(short_tmp: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(short_tmp / "mute.sock"))
        listener.listen()
        assert refused(short_tmp / "mute.sock", timeout=0.05).code == "timeout"


def test_a_daemon_of_another_version_is_named_with_both_versions(daemon: FakeDaemon) -> None:
    daemon.answers["hello"] = {"version": 99, "server": "future", "pid": 1}
    error = refused(daemon.path)
    assert error.code == "bad_version"
    assert "protocol 99, this tunnelctl 1" in error.message


def test_a_daemon_that_refuses_our_version_says_so_with_a_way_out(daemon: FakeDaemon) -> None:
    daemon.answers["hello"] = ControlError("bad_version", "protocol 1 is too old")
    error = refused(daemon.path)
    assert error.message == "protocol 1 is too old"
    assert "restart the daemon" in error.hint


@pytest.mark.parametrize(
    "nonsense",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        struct.pack(">I", MAX_FRAME + 1),
        struct.pack(">I", 1) + b"\xc1",
        encode({"id": 1}),
        encode({"id": 77, "result": {}}),
        encode({"id": 1, "result": "text"}),
    ],
)
def test_nonsense_in_place_of_a_greeting_is_an_internal_error(
    daemon: FakeDaemon, nonsense: bytes
) -> None:
    daemon.answers["hello"] = Raw(nonsense)
    assert refused(daemon.path).code == "internal"


def test_a_daemon_that_goes_away_is_reported(daemon: FakeDaemon) -> None:
    daemon.answers["status"] = None
    with Client.connect(daemon.path) as client, pytest.raises(ControlError) as caught:
        client.request("status")
    assert caught.value.code == "failed"
    assert "closed the connection" in caught.value.message


def test_what_the_daemon_says_unasked_is_passed_over(daemon: FakeDaemon) -> None:
    unasked = encode({"id": 0, "item": {"event": "bye"}})
    daemon.answers["status"] = Raw(unasked + encode({"id": 2, "result": {"pid": 1}}))
    with Client.connect(daemon.path) as client:
        assert client.request("status") == {"pid": 1}


def test_a_request_that_is_too_large_is_refused_before_it_is_sent(daemon: FakeDaemon) -> None:
    daemon.answers["status"] = {"pid": 1}
    with Client.connect(daemon.path) as client:
        with pytest.raises(ControlError) as caught:
            client.request("status", {"x": b"\0" * MAX_FRAME})
        assert caught.value.code == "bad_request"
        assert client.request("status") == {"pid": 1}


_LISTEN_AS_NOBODY = """
import os, socket, sys
os.setuid(65534)
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
listener.listen()
print(flush=True)
sys.stdin.read()
"""


@pytest.mark.root
def test_a_daemon_of_another_user_is_not_trusted(short_tmp: Path) -> None:
    path = short_tmp / "c.sock"
    short_tmp.chmod(0o777)
    with subprocess.Popen(
        [sys.executable, "-c", _LISTEN_AS_NOBODY, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"\n"
        error = refused(path)
        other.communicate()
    assert error.code == "denied"
    assert "runs as uid 65534" in error.message


@pytest.mark.root
def test_no_permission_for_the_socket_is_reported_with_a_way_out(daemon: FakeDaemon) -> None:
    daemon.path.chmod(0o600)
    daemon.path.parent.chmod(0o711)
    script = (
        "import sys, pathlib; from ctl.client import Client; from ctl.messages import ControlError"
        "\ntry: Client.connect(pathlib.Path(sys.argv[1]))"
        "\nexcept ControlError as exc: print(exc.code, exc.hint)"
    )
    said = _as_nobody(script, str(daemon.path))
    assert said.startswith("denied run tunnelctl as the daemon's user")


def _as_nobody(script: str, *arguments: str) -> str:
    """What a script prints that loses its privileges after its imports."""
    wrapped = f"import os, ctl.client\nos.setuid(65534)\n{script}"
    done = subprocess.run(
        [sys.executable, "-c", wrapped, *arguments], capture_output=True, text=True, check=True
    )
    return done.stdout
