"""Serving connections: drain, cut-off, faults and the bound on their number."""

import socket
import struct

import pytest
import structlog.testing
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from ctl.address import parse_address
from tunneld.endpoints.serving import DRAIN_TIMEOUT, MAX_CONNECTIONS, Handler, finish, serve
from tunneld.listening import listen_tcp

RESET_ON_CLOSE = struct.pack("ii", 1, 0)


async def start(
    nursery: trio.Nursery,
    handler: Handler,
    drain: trio.Event | None = None,
    limit: int = MAX_CONNECTIONS,
) -> tuple[str, int]:
    listeners = await listen_tcp("127.0.0.1:0")
    drain = trio.Event() if drain is None else drain
    [address] = await nursery.start(serve, listeners, handler, drain, limit)
    return parse_address(address)


async def reads_to_the_end(stream: trio.abc.HalfCloseableStream) -> None:
    async for _ in stream:
        pass


async def test_connection_ends_cleanly_when_its_handler_returns() -> None:
    async def says_goodbye(stream: trio.abc.HalfCloseableStream) -> None:
        await stream.send_all(b"bye")

    async with trio.open_nursery() as nursery:
        client = await trio.open_tcp_stream(*await start(nursery, says_goodbye))
        async with client:
            assert await client.receive_some() == b"bye"
            assert await client.receive_some() == b""
        nursery.cancel_scope.cancel()


async def test_drain_lets_open_connections_end_and_takes_no_new_ones() -> None:
    drain = trio.Event()
    async with trio.open_nursery() as nursery:
        address = await start(nursery, reads_to_the_end, drain)
        client = await trio.open_tcp_stream(*address)
        async with client:
            await wait_all_tasks_blocked()
            drain.set()
            await wait_all_tasks_blocked()
            with pytest.raises(OSError, match="connect"):
                await trio.open_tcp_stream(*address)
            await client.send_eof()
            assert await client.receive_some() == b""


async def test_drain_cuts_what_does_not_end_by_a_reset(autojump_clock: MockClock) -> None:
    drain = trio.Event()
    async with trio.open_nursery() as nursery:
        client = await trio.open_tcp_stream(*await start(nursery, reads_to_the_end, drain))
        async with client:
            await wait_all_tasks_blocked()
            started = trio.current_time()
            drain.set()
            with pytest.raises(trio.BrokenResourceError):
                await client.receive_some()
            assert trio.current_time() - started == pytest.approx(DRAIN_TIMEOUT)


async def test_cancelling_cuts_connections_by_a_reset() -> None:
    async with trio.open_nursery() as nursery:
        client = await trio.open_tcp_stream(*await start(nursery, reads_to_the_end))
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    await expect_reset(client)


async def test_listeners_are_closed_even_if_serving_never_began() -> None:
    listeners = await listen_tcp("127.0.0.1:0")
    with trio.CancelScope() as scope:
        scope.cancel()
        await serve(listeners, reads_to_the_end, trio.Event())
    assert listeners[0].socket.fileno() == -1


async def expect_reset(client: trio.SocketStream) -> None:
    async with client:
        with pytest.raises(trio.BrokenResourceError):
            await client.receive_some()


async def test_fault_of_a_handler_ends_its_connection_alone() -> None:
    async def breaks_on_x(stream: trio.abc.HalfCloseableStream) -> None:
        async for data in stream:
            if data == b"x":
                raise RuntimeError("a bug")
            await stream.send_all(data)

    async with trio.open_nursery() as nursery:
        address = await start(nursery, breaks_on_x)
        good, bad = await trio.open_tcp_stream(*address), await trio.open_tcp_stream(*address)
        with structlog.testing.capture_logs() as logs:
            await bad.send_all(b"x")
            await expect_reset(bad)
        async with good:
            await good.send_all(b"y")
            assert await good.receive_some() == b"y"
        nursery.cancel_scope.cancel()
    assert [each["event"] for each in logs] == ["connection ended by a fault of ours"]


async def test_peer_that_resets_is_no_fault() -> None:
    async with trio.open_nursery() as nursery:
        address = await start(nursery, reads_to_the_end)
        client = await trio.open_tcp_stream(*address)
        await wait_all_tasks_blocked()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        with structlog.testing.capture_logs() as logs:
            await client.aclose()
            await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert [each["event"] for each in logs] == ["connection broken"]


async def test_connections_beyond_the_limit_are_reset_at_once() -> None:
    async with trio.open_nursery() as nursery:
        address = await start(nursery, reads_to_the_end, limit=2)
        kept = [await trio.open_tcp_stream(*address) for _ in range(2)]
        await wait_all_tasks_blocked()
        with structlog.testing.capture_logs() as logs:
            await expect_reset(await trio.open_tcp_stream(*address))
        await kept.pop().aclose()
        await wait_all_tasks_blocked()
        kept.append(await trio.open_tcp_stream(*address))
        await kept[-1].send_eof()
        assert await kept[-1].receive_some() == b""
        nursery.cancel_scope.cancel()
    assert [each["event"] for each in logs] == ["connection refused: too many"]
    for each in kept:
        await each.aclose()


async def test_finish_waits_for_the_peer_to_close(autojump_clock: MockClock) -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(finish, ours)
        assert await theirs.receive_some() == b""
        await theirs.send_all(b"more of the request")
        await trio.sleep(0.5)
        await theirs.send_eof()
    assert trio.current_time() == pytest.approx(0.5)


async def test_finish_does_not_wait_for_ever(autojump_clock: MockClock) -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    started = trio.current_time()
    await finish(ours)
    assert trio.current_time() - started == pytest.approx(1.0)
    assert await theirs.receive_some() == b""
