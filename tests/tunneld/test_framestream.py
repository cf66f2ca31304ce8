import os
import socket
import struct
from collections.abc import AsyncIterator

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from ctl.messages import MAX_FRAME, FrameError, encode
from tunneld.framestream import FrameStream


@pytest.fixture
async def pair() -> AsyncIterator[tuple[FrameStream, FrameStream]]:
    left, right = trio.socket.socketpair()
    async with FrameStream(left, frame_timeout=10) as one, FrameStream(right, 10) as other:
        yield one, other


Pair = tuple[FrameStream, FrameStream]


async def test_messages_arrive_in_order_whatever_their_size(pair: Pair) -> None:
    one, other = pair
    sent = [{"id": n, "result": "x" * (n * 100_000)} for n in range(8)]

    async def send() -> None:
        for message in sent:
            await one.send(message)
        one.close()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        for message in sent:
            assert await other.receive() == message
        assert await other.receive() is None


async def test_messages_of_many_tasks_do_not_mix(pair: Pair) -> None:
    one, other = pair
    async with trio.open_nursery() as nursery:
        for number in range(20):
            nursery.start_soon(one.send, {"id": number, "result": str(number) * 50_000})
        for _ in range(20):
            message = await other.receive()
            assert message is not None
            assert message["result"] == str(message["id"]) * 50_000


async def test_nothing_beyond_a_message_is_read(pair: Pair) -> None:
    one, other = pair
    await one.socket.send(encode({"id": 1}) + b"raw bytes")
    assert await other.receive() == {"id": 1}
    assert await other.socket.recv(100) == b"raw bytes"


async def test_a_descriptor_travels_with_its_message(pair: Pair) -> None:
    one, other = pair
    near, far = socket.socketpair()
    with near, far:
        await one.send({"id": 1})
        await one.send({"id": 2}, far.fileno())
        await one.send({"id": 3})
        assert await other.receive() == {"id": 1}
        assert other.take_descriptor() is None
        assert await other.receive() == {"id": 2}
        descriptor = other.take_descriptor()
        assert descriptor is not None
        assert await other.receive() == {"id": 3}
        assert other.take_descriptor() is None
        os.write(descriptor, b"through the copy")
        os.close(descriptor)
        assert near.recv(100) == b"through the copy"


async def test_descriptors_that_nobody_takes_are_closed(pair: Pair) -> None:
    one, other = pair
    reader, writer = os.pipe()
    await one.send({"id": 1}, writer)
    os.close(writer)
    assert await other.receive() == {"id": 1}
    other.close()
    assert os.read(reader, 1) == b""  # no writer is left
    os.close(reader)


async def test_an_oversized_frame_is_refused_before_its_payload(pair: Pair) -> None:
    one, other = pair
    await one.socket.send(struct.pack(">I", MAX_FRAME + 1))
    with pytest.raises(FrameError, match="limit 1048576"):
        await other.receive()


async def test_an_oversized_message_leaves_no_trace(pair: Pair) -> None:
    one, other = pair
    with pytest.raises(FrameError, match="limit 1048576"):
        await one.send({"id": 1, "result": "x" * MAX_FRAME})
    await one.send({"id": 2})
    assert await other.receive() == {"id": 2}


async def test_the_end_in_the_middle_of_a_frame_is_an_error(pair: Pair) -> None:
    one, other = pair
    await one.socket.send(encode({"id": 1})[:-1])
    one.close()
    with pytest.raises(FrameError, match="ended in the middle"):
        await other.receive()


async def test_half_a_frame_is_not_waited_for_without_end(
    pair: Pair, autojump_clock: MockClock
) -> None:
    one, other = pair
    await trio.sleep(1000)  # between frames there is no limit
    await one.socket.send(b"\0")
    started = trio.current_time()
    with pytest.raises(FrameError, match="not complete after 10 s"):
        await other.receive()
    assert trio.current_time() - started == pytest.approx(10)


async def test_a_message_that_was_cut_off_is_the_last(pair: Pair) -> None:
    one, _ = pair
    one.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(one.send, {"id": 1, "result": "x" * 900_000})
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    with pytest.raises(trio.BrokenResourceError, match="cut off"):
        await one.send({"id": 2})


async def test_sending_to_nobody_is_an_error(pair: Pair) -> None:
    one, other = pair
    other.close()
    with pytest.raises(trio.BrokenResourceError):
        await one.send({"id": 1})


async def test_a_reset_reads_as_the_end(pair: Pair) -> None:
    one, other = pair
    await one.send({"id": 1})
    other.close()  # with octets unread: ECONNRESET at our end
    assert await one.receive() is None


async def test_unexpected_descriptors_do_not_use_up_ours(pair: Pair) -> None:
    one, other = pair
    reader, writer = os.pipe()
    for number in range(20):
        await one.send({"id": number}, writer)
        await other.receive()
    os.close(writer)
    taken = list(iter(other.take_descriptor, None))
    assert len(taken) == 8
    for descriptor in taken:
        os.close(descriptor)
    assert os.read(reader, 1) == b""  # the other twelve are closed
    os.close(reader)
