"""What konnectivity's DATA packets cost: microseconds each, by size of their payload.

    python bench/packet.py

Parsing counts from octets of a stream to a packet whose payload is a view of them; the header is
all that is made of a packet that leaves. Best of seven.
"""

import time
from collections.abc import Callable

from frames.grpc import PREFIX_SIZE, MessageReader, prefix
from frames.packet import data_header, parse

_SIZES = (64, 4096, 16352, 32768)
_CONNECT_IDS = (1, 70_000)
_ROUNDS = 20_000
_BATCH = 8
_FRAME = 16384
"""Octets of a frame of Go's, at most."""


def best(measure: Callable[[], float]) -> float:
    return min(measure() for _ in range(7))


def message(connect_id: int, size: int) -> bytes:
    return data_header(connect_id, size) + bytes(size)


def parse_seconds(connect_id: int, size: int) -> float:
    """Seconds to parse one bare packet."""
    octets = memoryview(message(connect_id, size))
    started = time.perf_counter()
    for _ in range(_ROUNDS):
        parse(octets)
    return (time.perf_counter() - started) / _ROUNDS


def read_seconds(connect_id: int, size: int, piece: int) -> float:
    """Seconds to take one packet out of a stream's octets that come in pieces of ``piece``."""
    bare = message(connect_id, size)
    stream = memoryview((prefix(len(bare)) + bare) * _BATCH)
    pieces = [stream[start : start + piece] for start in range(0, len(stream), piece)]
    count = 0

    def on_message(octets: memoryview) -> None:
        nonlocal count
        parse(octets)
        count += 1

    reader = MessageReader(on_message)
    rounds = _ROUNDS // _BATCH
    started = time.perf_counter()
    for _ in range(rounds):
        for octets in pieces:
            reader.feed(octets)
    elapsed = time.perf_counter() - started
    assert count == rounds * _BATCH
    return elapsed / count


def header_seconds(connect_id: int, size: int) -> float:
    """Seconds to make what stands before the payload."""
    started = time.perf_counter()
    for _ in range(_ROUNDS):
        data_header(connect_id, size)
    return (time.perf_counter() - started) / _ROUNDS


def report(connect_id: int, size: int) -> None:
    whole = (PREFIX_SIZE + len(message(connect_id, size))) * _BATCH
    seconds = (
        best(lambda: parse_seconds(connect_id, size)),
        best(lambda: header_seconds(connect_id, size)),
        best(lambda: read_seconds(connect_id, size, whole)),
        best(lambda: read_seconds(connect_id, size, _FRAME)),
    )
    columns = "".join(f"{value * 1e6:10.2f}" for value in seconds)
    print(f"id {connect_id:5}, {size:5} octets {columns}")


def main() -> None:
    print("µs for a packet of         parse    header      read  in frames")
    for connect_id in _CONNECT_IDS:
        for size in _SIZES:
            report(connect_id, size)


if __name__ == "__main__":
    main()
