"""The greeter: its message, its connections' lives, and a real gRPC client."""

from collections.abc import Callable
from typing import Any

import grpc
import pytest
import trio
from trio.testing import MockClock, memory_stream_pair, wait_all_tasks_blocked

from ctl.hello import SAY_HELLO, HelloReply, HelloRequest
from tests.tunneld.endpoints.conftest import Running
from tests.tunneld.endpoints.grpc_client import framed
from tunneld.config import GreeterConfig
from tunneld.endpoints.greeter import GREETING_TIMEOUT, GreeterRole, say_hello, serve_calls
from tunneld.endpoints.grpc import GrpcError, Status
from tunneld.role import Host

GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes.fromhex("000000 04 00 00000000")


def test_reply_has_the_octets_of_konnectivitys_demo() -> None:
    assert framed(b"\x0a\x04demo") == bytes.fromhex("0000000006 0a0464656d6f")
    assert framed(say_hello(b"\x0a\x04demo")) == bytes.fromhex(
        "000000000d 0a0b48656c6c6f2064656d6f21"
    )


def test_request_without_a_name_is_greeted_all_the_same() -> None:
    assert HelloReply.FromString(say_hello(b"")).message == "Hello !"


@pytest.mark.parametrize("request_", [b"\x0a\x05demo", b"\xff", b"\x0a\x02\xff\xfe"])
def test_request_that_is_no_message_is_an_internal_error(request_: bytes) -> None:
    with pytest.raises(GrpcError, match=r"no hello\.HelloRequest") as caught:
        say_hello(request_)
    assert caught.value.status is Status.INTERNAL


async def connect(nursery: trio.Nursery, drain: trio.Event) -> trio.StapledStream[Any, Any]:
    ours, theirs = memory_stream_pair()

    async def serve_and_close() -> None:
        await serve_calls(ours, drain)
        await ours.aclose()

    nursery.start_soon(serve_and_close)
    return theirs


async def test_client_that_never_greets_is_sent_away(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        client = await connect(nursery, trio.Event())
        await client.send_all(GREETING[:10])
        assert (await client.receive_some())[3] == 4  # our SETTINGS
        assert await client.receive_some() == b""
        assert trio.current_time() == pytest.approx(GREETING_TIMEOUT)


async def test_client_that_greeted_may_idle(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        client = await connect(nursery, trio.Event())
        await client.send_all(GREETING)
        await trio.sleep(3600)
        await client.receive_some()
        ping = bytes.fromhex("000008 06 00 00000000 0102030405060708")
        await client.send_all(ping)
        assert (await client.receive_some())[3:5] == b"\x06\x01"
        await client.aclose()


async def test_drain_sends_idle_clients_away_at_once(autojump_clock: MockClock) -> None:
    drain = trio.Event()
    async with trio.open_nursery() as nursery:
        client = await connect(nursery, drain)
        await client.send_all(GREETING)
        await wait_all_tasks_blocked()
        await client.receive_some()
        drain.set()
        assert (await client.receive_some())[3] == 7  # GOAWAY
        assert await client.receive_some() == b""
        await client.aclose()
    assert trio.current_time() == 0


async def test_what_is_not_http2_is_closed(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        client = await connect(nursery, trio.Event())
        await client.send_all(b"GET /ok HTTP/1.1\r\n\r\n")
        await client.receive_some()
        assert await client.receive_some() == b""
        await client.aclose()


def stub(channel: grpc.Channel, path: str = SAY_HELLO) -> Callable[..., Any]:
    method: Callable[..., Any] = channel.unary_unary(
        path,
        request_serializer=HelloRequest.SerializeToString,
        response_deserializer=HelloReply.FromString,
    )
    return method


async def in_thread(call: Callable[[], Any]) -> Any:
    return await trio.to_thread.run_sync(call)


async def test_real_client_is_greeted(host: Host, running: Running) -> None:
    async with running(role(host)) as (address, port):
        with grpc.insecure_channel(f"{address}:{port}") as channel:
            reply = await in_thread(lambda: stub(channel)(HelloRequest(name="demo"), timeout=10))
    assert reply.message == "Hello demo!"


def role(host: Host) -> GreeterRole:
    return GreeterRole(GreeterConfig(name="grpc", listen="127.0.0.1:0"), host)


async def test_real_client_makes_many_calls_at_once(host: Host, running: Running) -> None:
    names = [f"{number}-" + "x" * (number * 300) for number in range(300)]

    def call_all(channel: grpc.Channel) -> list[str]:
        futures = [stub(channel).future(HelloRequest(name=name)) for name in names]  # type: ignore[attr-defined]
        return [future.result(timeout=30).message for future in futures]

    async with running(role(host)) as (address, port):
        with grpc.insecure_channel(f"{address}:{port}") as channel:
            replies = await in_thread(lambda: call_all(channel))
    assert replies == [f"Hello {name}!" for name in names]


async def test_real_client_sends_and_gets_a_large_message(host: Host, running: Running) -> None:
    name = "n" * 3_000_000
    async with running(role(host)) as (address, port):
        with grpc.insecure_channel(f"{address}:{port}") as channel:
            reply = await in_thread(lambda: stub(channel)(HelloRequest(name=name), timeout=30))
    assert reply.message == f"Hello {name}!"


@pytest.mark.parametrize(
    ("path", "compression", "code", "details"),
    [
        ("/hello.Greeter/Shout", None, "UNIMPLEMENTED", "service hello.Greeter has no method"),
        ("/bye.Greeter/SayHello", None, "UNIMPLEMENTED", "no service 'bye.Greeter' here"),
        (SAY_HELLO, grpc.Compression.Gzip, "UNIMPLEMENTED", "no decompressor for grpc-encoding"),
    ],
)
async def test_real_client_sees_the_status(
    host: Host,
    running: Running,
    path: str,
    compression: grpc.Compression | None,
    code: str,
    details: str,
) -> None:
    request = HelloRequest(name="x" * 1000)
    async with running(role(host)) as (address, port):
        with (
            grpc.insecure_channel(f"{address}:{port}", compression=compression) as channel,
            pytest.raises(grpc.RpcError) as caught,
        ):
            await in_thread(lambda: stub(channel, path)(request, timeout=10))
    assert caught.value.code().name == code
    assert details in caught.value.details()


async def test_real_client_is_served_by_the_next_greeter_after_a_drain(host: Host) -> None:
    """The GOAWAY tells the client to connect again: it must not fail a call."""
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            [address] = await nursery.start(role(host).run)
            channel = grpc.insecure_channel(address)
            first = await in_thread(lambda: stub(channel)(HelloRequest(name="a"), timeout=10))
            host.drain.set()
        successor = Host(host.name, host.reactor, host.state_dir, host.set_state)
        async with trio.open_nursery() as nursery:
            config = GreeterConfig(name="grpc", listen=address)
            await nursery.start(GreeterRole(config, successor).run)
            again = await in_thread(
                lambda: stub(channel)(HelloRequest(name="b"), timeout=10, wait_for_ready=True)
            )
            channel.close()
            nursery.cancel_scope.cancel()
    assert (first.message, again.message) == ("Hello a!", "Hello b!")
