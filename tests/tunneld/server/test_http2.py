"""CONNECT over HTTP/2: many streams of one client, and what it may not do."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import h2.errors
import h2.settings
import pytest
import trio

from tests.tunneld.peers import H2Client, H2Stream, open_h2, open_tls, open_unix, receive_all
from tests.tunneld.server.test_frontend import Full
from tests.tunneld.tunnelworld import World, open_world

Settings = h2.settings.SettingCodes


@asynccontextmanager
async def http2(world: World, **settings: int) -> AsyncIterator[H2Client]:
    chosen: dict[Settings | int, int] = {getattr(Settings, k): v for k, v in settings.items()}
    async with open_h2(await open_tls(world.frontend, world.pki, "h2"), chosen) as client:
        yield client


async def echo(stream: trio.SocketStream) -> None:
    async for data in stream:
        await stream.send_all(data)
    await stream.send_eof()


async def test_streams_of_one_client_do_not_mix(world: World) -> None:
    port = await world.endpoint(echo)
    answers: dict[int, bytes] = {}

    async def talk(client: H2Client, number: int) -> None:
        stream = await client.connect(f"127.0.0.1:{port}")
        assert (await stream.response())[":status"] == "200"
        await stream.send_all(b"%d " % number * 20_000)
        await stream.send_eof()
        answers[number] = await receive_all(stream)

    async with http2(world) as client, trio.open_nursery() as nursery:
        for number in range(30):
            nursery.start_soon(talk, client, number)
    assert answers == {number: b"%d " % number * 20_000 for number in range(30)}
    await world.at_rest()


async def test_prior_knowledge_over_a_unix_socket_is_served(world: World) -> None:
    port = await world.endpoint(echo)
    async with open_h2(await open_unix(world.unix_frontend)) as client:
        stream = await client.connect(f"127.0.0.1:{port}")
        assert (await stream.response())[":status"] == "200"
        await stream.send_eof()
        assert await receive_all(stream) == b""


async def test_octets_and_end_ahead_of_the_answer_reach_the_endpoint(world: World) -> None:
    """More of them than half a window, which must be credited like any others."""
    port = await world.endpoint(echo)
    async with http2(world) as client:
        stream = await client.connect(f"127.0.0.1:{port}")
        await stream.send_all(bytes(60_000))
        await stream.send_eof()
        assert await receive_all(stream) == bytes(60_000)
    await world.at_rest()


async def test_early_octets_are_credited_to_the_client(world: World) -> None:
    port = await world.endpoint(echo)
    async with http2(world) as client:
        stream = await client.connect(f"127.0.0.1:{port}")
        await stream.send_all(bytes(200_000))  # the first window and more
        await stream.send_eof()
        assert len(await receive_all(stream)) == 200_000
    await world.at_rest()


async def test_a_request_that_has_ended_already_is_carried(world: World) -> None:
    async def say(stream: trio.SocketStream) -> None:
        assert await stream.receive_some(100) == b""
        await stream.send_all(b"all the same")

    port = await world.endpoint(say)
    async with http2(world) as client:
        stream = await client.connect(f"127.0.0.1:{port}", end_stream=True)
        assert await receive_all(stream) == b"all the same"
        await world.until(lambda: not world.server.conns())
    await world.at_rest()


async def test_another_method_is_405_and_leaves_nothing(world: World) -> None:
    async with http2(world) as client:
        for end_stream in (True, False) * 5:
            stream = await client.request(
                [
                    (":method", "GET"),
                    (":scheme", "https"),
                    (":authority", "x"),
                    (":path", "/"),
                ],
                end_stream=end_stream,
            )
            response = await stream.response()
            assert (response[":status"], response["allow"]) == ("405", "CONNECT")
            assert await receive_all(stream) == b"this proxy only supports CONNECT passthrough\n"
        assert ends_of_clients(world) == 0


def ends_of_clients(world: World) -> int:
    """Streams that the server's HTTP/2 sessions know of."""
    return sum(len(session.ends) for session in world.server._frontends._http2._sessions)


async def test_a_dial_that_fails_says_why(world: World) -> None:
    async with http2(world) as client:
        for authority, status, error in (
            ("127.0.0.1:1", "502", "connection_refused"),
            ("127.0.0.1", "502", "http_request_error"),
            ("nosuch.invalid:80", "502", "dns_error"),
        ):
            stream = await client.connect(authority)
            response = await stream.response()
            assert response[":status"] == status
            assert f"error={error};" in response["proxy-status"]
            assert (await receive_all(stream)).startswith(b"dial tcp")
        await world.until(lambda: ends_of_clients(world) == 0)
    await world.at_rest()


async def test_a_reset_ends_the_dial(world: World) -> None:
    with closing(Full()) as full:
        async with http2(world) as client:
            stream = await client.connect(f"127.0.0.1:{full.port}")
            await world.until(world.agent.conns)
            stream.reset()
            await world.until(lambda: not world.server.conns() + world.agent.conns())
        await world.at_rest()


async def test_losing_the_client_ends_its_dials(world: World) -> None:
    with closing(Full()) as full:
        async with http2(world) as client:
            for _ in range(3):
                await client.connect(f"127.0.0.1:{full.port}")
            await world.until(lambda: len(world.agent.conns()) == 3)
        await world.at_rest()


async def test_a_client_that_takes_no_headers_hurts_itself_alone(world: World) -> None:
    port = await world.endpoint(echo)
    async with http2(world, MAX_HEADER_LIST_SIZE=1) as client:
        for authority in (f"127.0.0.1:{port}", "127.0.0.1:1"):
            stream = await client.connect(authority)
            with pytest.raises(ConnectionError, match=str(h2.errors.ErrorCodes.INTERNAL_ERROR)):
                await stream.response()
    await world.at_rest()
    async with http2(world) as client:
        stream = await client.connect(f"127.0.0.1:{port}")
        assert (await stream.response())[":status"] == "200"


async def test_a_reply_waits_for_the_clients_window(world: World) -> None:
    async with http2(world, INITIAL_WINDOW_SIZE=0) as client:
        stream = await client.connect("127.0.0.1:1")
        assert (await stream.response())[":status"] == "502"
        client.connection.increment_flow_control_window(1000, stream.id)
        await client.flush()
        assert (await receive_all(stream)).startswith(b"dial tcp")
        await world.until(lambda: ends_of_clients(world) == 0)


async def test_small_windows_carry_everything(world: World) -> None:
    port = await world.endpoint(echo)
    async with http2(world, INITIAL_WINDOW_SIZE=100) as client:
        stream = await client.connect(f"127.0.0.1:{port}")
        await stream.send_all(bytes(range(250)) * 200)
        await stream.send_eof()
        assert await receive_all(stream) == bytes(range(250)) * 200
    await world.at_rest()


async def test_a_stream_that_nobody_reads_does_not_stop_the_others(world: World) -> None:
    async def push(stream: trio.SocketStream) -> None:
        while True:
            await stream.send_all(bytes(65536))

    pushing, echoing = await world.endpoint(push), await world.endpoint(echo)
    async with http2(world, INITIAL_WINDOW_SIZE=10_000) as client:
        stalled = await client.connect(f"127.0.0.1:{pushing}")
        stalled.reading = False
        assert (await stalled.response())[":status"] == "200"
        for _ in range(20):
            other = await client.connect(f"127.0.0.1:{echoing}")
            await exchange(other, bytes(100_000))
        assert len(stalled.octets) == 10_000
    await world.at_rest()


async def exchange(stream: H2Stream, octets: bytes) -> None:
    await stream.send_all(octets)
    await stream.send_eof()
    assert await receive_all(stream) == octets


async def test_breaking_the_protocol_ends_that_client_with_a_reason(world: World) -> None:
    async with http2(world) as client:
        stream = await client.connect("127.0.0.1:1")
        await stream.response()
        await client.peer.send_all(b"\x00\x00\x08\x06\x00\x00\x00\x00\x01" + bytes(8))
        await client.closed.wait()
        assert client.goaway is not None
        assert client.goaway.error_code == h2.errors.ErrorCodes.PROTOCOL_ERROR
        assert client.goaway.additional_data == b"PING on stream 1"
    await world.at_rest()


async def test_a_client_without_connections_is_let_go_where_there_is_a_limit(
    pki: Path, tmp_path: Path
) -> None:
    async with open_world(pki, tmp_path, server_options={"idle_timeout": 1.0}) as world:
        port = await world.endpoint(echo)
        async with open_h2(await open_tls(world.frontend, world.pki, "h2")) as client:
            stream = await client.connect(f"127.0.0.1:{port}")
            assert (await stream.response())[":status"] == "200"
            stream.reset()
            with trio.fail_after(10):
                await client.closed.wait()
