"""The gRPC client against a real grpcio server, and against hand-made nonsense."""

import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from ctl.ends import SocketEnd, TunnelEnd
from ctl.hello import SAY_HELLO, HelloReply, HelloRequest
from ctl.pump import Pump, TunnelResetError
from tests.ctl.conftest import Run
from tests.ctl.fakedaemon import Dial, FakeDaemon


def _say_hello(request: bytes, context: grpc.ServicerContext) -> bytes:
    name = request[2:].decode()
    if name == "nobody":
        context.abort(grpc.StatusCode.NOT_FOUND, "no nobody: 100% sure, ü")
    if name == "slow":
        threading.Event().wait(context.time_remaining() + 1)
    if name == "garbage":
        return b"\xff"
    text = f"Hello {name}!".encode()
    return b"\x0a" + bytes([len(text)]) + text


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """A grpcio server on loopback."""
    handler = grpc.unary_unary_rpc_method_handler(_say_hello)
    server = grpc.server(ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("hello.Greeter", {"SayHello": handler}),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield port
    server.stop(None).wait()


@pytest.fixture
def greeter(daemon: FakeDaemon, port: int) -> None:
    def relay(sock: socket.socket) -> None:
        with socket.create_connection(("127.0.0.1", port)) as endpoint:
            end = SocketEnd(endpoint)
            try:
                Pump(TunnelEnd(sock), end, end).run_until_done()
            except (OSError, TunnelResetError):
                return  # the client is done and has closed

    daemon.answers["dial"] = Dial(relay)


@pytest.mark.usefixtures("greeter")
def test_it_prints_the_greeting(run: Run) -> None:
    done = run("grpc", "192.168.1.2:4001", "--name", "demo")
    assert (done.code, done.stdout, done.stderr) == (0, "Hello demo!\n", "")


@pytest.mark.usefixtures("greeter")
def test_an_error_status_is_shown_by_name_with_its_text(run: Run) -> None:
    done = run("grpc", "h:1", "--name", "nobody")
    assert done.code == 1
    assert "it answered NOT_FOUND: no nobody: 100% sure, ü" in done.stderr


@pytest.mark.usefixtures("greeter")
def test_a_deadline_is_a_timeout(run: Run) -> None:
    done = run("grpc", "h:1", "--name", "slow", "--timeout", "0.2")
    assert done.code == 6
    assert "did not answer the call within 0.2 s" in done.stderr


@pytest.mark.parametrize(
    ("response", "complaint"),
    [
        (b"", "closed the connection"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "it speaks HTTP/1"),
        (b"\x00" * 4 + b"\x00" * 5 + b"\x00" * 20, "does not speak HTTP/2"),
        (b"\x00\x00\x08\x07\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x0b", "ended the conn"),
    ],
    ids=["nothing", "HTTP/1.1", "DATA on stream 0", "GOAWAY"],
)
def test_what_is_no_grpc_endpoint_is_told(
    daemon: FakeDaemon, run: Run, response: bytes, complaint: str
) -> None:
    def answer(sock: socket.socket) -> None:
        sock.recv(65536)
        sock.sendall(response)
        sock.shutdown(socket.SHUT_WR)
        while sock.recv(65536):
            pass

    daemon.answers["dial"] = Dial(answer)
    done = run("grpc", "h:1")
    assert done.code == 1
    assert complaint in done.stderr


def test_the_messages_are_those_of_the_demo() -> None:
    # konnectivity's own octets: name `demo`, reply `Hello demo!`.
    assert SAY_HELLO == "/hello.Greeter/SayHello"
    assert HelloRequest(name="demo").SerializeToString() == bytes.fromhex("0a0464656d6f")
    reply = HelloReply.FromString(bytes.fromhex("0a0b48656c6c6f2064656d6f21"))
    assert reply.message == "Hello demo!"


@pytest.mark.usefixtures("greeter")
def test_a_reply_that_is_no_message_is_an_error(run: Run) -> None:
    done = run("grpc", "h:1", "--name", "garbage")
    assert done.code == 1
    assert "its reply is no HelloReply" in done.stderr


def test_a_name_that_is_no_text_is_a_usage_error(run: Run) -> None:
    assert run("grpc", "h:1", "--name", "\udcff").code == 2
