"""What framing costs: microseconds per small DATA frame, gigabytes per second of large ones.

    python bench/framing.py

Parsing counts from octets in a buffer to the stream's receiver, which credits them; building from
octets in the transmit buffer to a finished frame. Neither counts a socket or TLS. Best of seven.
"""

import time
from collections.abc import Callable

from frames import Connection, Event, Role, Setting, Stream
from frames.frame import FrameType, serialize

_HEADERS = [
    (b":method", b"POST"),
    (b":scheme", b"https"),
    (b":path", b"/"),
    (b":authority", b"bench"),
]
_WINDOW = 2**30
_BATCH = 200 * 1024
"""Octets parsed at once, as a session reads them."""


def best(measure: Callable[[], float]) -> float:
    return min(measure() for _ in range(7))


def ignore(event: Event) -> None:
    pass


def connected() -> tuple[Connection, Stream, Connection]:
    """A client with an open stream, and the server that got the request; windows wide open."""
    settings: dict[int, int] = {
        Setting.INITIAL_WINDOW_SIZE: _WINDOW,
        Setting.MAX_FRAME_SIZE: 2**20,
    }
    client = Connection(Role.CLIENT, ignore, settings=settings, receive_window=_WINDOW)
    server = Connection(Role.SERVER, ignore, settings=settings, receive_window=_WINDOW)
    client.initiate()
    server.initiate()
    exchange(client, server)
    stream = client.open_stream(_HEADERS)
    exchange(client, server)
    return client, stream, server


def exchange(client: Connection, server: Connection) -> None:
    while client.tx.length or server.tx.length:
        for sender, receiver in ((client, server), (server, client)):
            octets = bytes(sender.tx.waiting())
            sender.sent()
            receiver.receive(memoryview(octets))


def parse_seconds(size: int) -> float:
    """Seconds to parse one DATA frame of ``size`` octets, with its receiver's call."""
    _, sender, server = connected()
    stream = server.streams[sender.id]
    count = 0

    def receiver(octets: memoryview, end_stream: bool) -> None:
        nonlocal count
        count += 1
        server.consume(stream, len(octets))

    stream.receiver = receiver
    frames = max(1, _BATCH // (9 + size))
    batch = memoryview(serialize(FrameType.DATA, 0, stream.id, bytes(size)) * frames)
    rounds = max(1, 100_000 // frames if size < 4096 else 2_000)
    server.receive_window = stream.receive_window = 2**62
    started = time.perf_counter()
    for _ in range(rounds):
        server.receive(batch)
    elapsed = time.perf_counter() - started
    assert count == rounds * frames
    return elapsed / count


def build_seconds(size: int) -> float:
    """Seconds to make one DATA frame of ``size`` octets that lie in the transmit buffer."""
    client, stream, _ = connected()
    frames = max(1, _BATCH // (9 + size))
    rounds = max(1, 100_000 // frames)
    stream.send_window = client.send_window = 2**62
    started = time.perf_counter()
    for _ in range(rounds):
        for _ in range(frames):
            room = client.data_room(stream)
            client.tx.payload_view(room)
            client.commit_data(stream, size)
        client.sent()
    return (time.perf_counter() - started) / (rounds * frames)


def copy_seconds(size: int) -> float:
    """Seconds for `send_data`, which copies."""
    client, stream, _ = connected()
    octets = bytes(size)
    frames = max(1, _BATCH // (9 + size))
    rounds = max(1, 100_000 // frames if size < 4096 else 2_000)
    stream.send_window = client.send_window = 2**62
    started = time.perf_counter()
    for _ in range(rounds):
        for _ in range(frames):
            client.send_data(stream, octets)
        client.sent()
    return (time.perf_counter() - started) / (rounds * frames)


def main() -> None:
    large = 128 * 1024
    print(f"parse 64 B DATA       {best(lambda: parse_seconds(64)) * 1e6:6.2f} µs")
    print(f"build 64 B DATA       {best(lambda: build_seconds(64)) * 1e6:6.2f} µs")
    print(f"send_data of 64 B     {best(lambda: copy_seconds(64)) * 1e6:6.2f} µs")
    print(f"parse 128 KiB DATA    {large / best(lambda: parse_seconds(large)) / 1e9:6.1f} GB/s")
    print(f"send_data of 128 KiB  {large / best(lambda: copy_seconds(large)) / 1e9:6.1f} GB/s")


if __name__ == "__main__":
    main()
