"""Messages in a stream's octets. Literal ones are those of a Go program."""

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frames import Role
from frames.grpcmessage import MAX_MESSAGE, PREFIX_SIZE, MessageReader, prefix
from frames.grpcstatus import GrpcError, Status
from tests.frames.strategies import pieces


class Reading:
    """A reader, and copies of the messages that it found."""

    def __init__(
        self, limit: int = MAX_MESSAGE, *, encoding: bytes = b"", role: Role = Role.SERVER
    ):
        self.reader = MessageReader(self._keep, limit, encoding=encoding, role=role)
        self.messages: list[bytes] = []

    def feed(self, *parts: bytes) -> None:
        for part in parts:
            self.reader.feed(memoryview(part))

    def _keep(self, message: memoryview) -> None:
        self.messages.append(bytes(message))


def framed(message: bytes) -> bytes:
    return prefix(len(message)) + message


def test_a_prefix_is_a_flag_and_a_length() -> None:
    assert prefix(0x22).hex(" ") == "00 00 00 00 22"
    assert prefix(MAX_MESSAGE).hex(" ") == "00 00 40 00 00"
    assert len(prefix(0)) == PREFIX_SIZE


def test_messages_are_taken_out_of_their_frames() -> None:
    reading = Reading()
    reading.feed(bytes.fromhex("00 00000006 0802 2a02 0801  00 00000000  00 00000004 0806 4200"))
    assert reading.messages == [b"\x08\x02\x2a\x02\x08\x01", b"", b"\x08\x06\x42\x00"]
    assert reading.reader.empty


@given(st.lists(st.binary(max_size=40), max_size=8), st.data())
def test_any_cut_gives_the_same_messages(messages: list[bytes], draw: st.DataObject) -> None:
    wire = b"".join(map(framed, messages))
    reading = Reading()
    reading.feed(*draw.draw(pieces(wire)))
    assert reading.messages == messages
    assert reading.reader.empty


def test_octet_by_octet_gives_the_same_messages() -> None:
    reading = Reading()
    messages = [b"", b"a", b"", bytes(300), b"b"]
    for octet in b"".join(map(framed, messages)):
        reading.feed(bytes([octet]))
    assert reading.messages == messages


@pytest.mark.parametrize("cut", range(1, 8))
def test_a_message_that_breaks_off_leaves_the_reader_not_empty(cut: int) -> None:
    reading = Reading()
    reading.feed(framed(b"whole") + framed(b"abc")[:cut])
    assert reading.messages == [b"whole"]
    assert not reading.reader.empty
    reading.feed(framed(b"abc")[cut:])
    assert reading.messages == [b"whole", b"abc"]
    assert reading.reader.empty


def test_a_reader_begins_empty_and_nothing_changes_that() -> None:
    reading = Reading()
    assert reading.reader.empty
    reading.feed(b"")
    assert reading.reader.empty


def test_a_large_message_comes_as_go_cuts_it() -> None:
    message = bytes(range(256)) * 128 + bytes(12)
    wire = framed(message)
    reading = Reading()
    reading.feed(wire[:16384], wire[16384:32768])
    assert reading.messages == []
    reading.feed(wire[32768:])
    assert reading.messages == [message]


def test_a_message_that_is_whole_is_not_copied() -> None:
    octets = bytearray(b"\0" + framed(b"abc") + framed(b"de"))
    found: list[memoryview] = []
    MessageReader(found.append).feed(memoryview(octets)[1:])
    octets[6:9] = b"xyz"
    assert [bytes(view) for view in found] == [b"xyz", b"de"]


def test_views_that_are_kept_do_not_break_the_reader() -> None:
    found: list[memoryview] = []
    reader = MessageReader(found.append)
    wire = framed(b"abc") * 3
    for start in range(0, len(wire), 2):
        reader.feed(memoryview(wire[start : start + 2]))
    assert [bytes(view) for view in found] == [b"abc"] * 3


# -- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize("cut", range(6))
def test_a_message_that_is_too_long_is_refused_with_gos_text(cut: int) -> None:
    reading = Reading()
    wire = prefix(5242894) + b"x"
    with pytest.raises(GrpcError) as caught:
        reading.feed(framed(b"first") + wire[:cut], wire[cut:])
    assert caught.value.status is Status.RESOURCE_EXHAUSTED
    assert caught.value.message == ("grpc: received message larger than max (5242894 vs. 4194304)")
    assert reading.messages == [b"first"]


def test_a_message_of_just_the_limit_is_taken() -> None:
    reading = Reading(limit=10)
    reading.feed(framed(bytes(10)))
    with pytest.raises(GrpcError):
        reading.feed(framed(bytes(11)))
    assert reading.messages == [bytes(10)]


def test_nothing_is_stored_of_a_message_that_is_too_long() -> None:
    reading = Reading(limit=1000)
    octets = prefix(1 << 20) + bytes(1 << 20)
    tracemalloc.start()
    try:
        with pytest.raises(GrpcError):
            reading.feed(octets)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 100_000


def test_a_length_alone_reserves_nothing() -> None:
    reading = Reading()
    wire = prefix(MAX_MESSAGE) + b"x"
    tracemalloc.start()
    try:
        reading.feed(wire)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 100_000


FLAGGED: dict[str, tuple[int, bytes, Role, Status, str]] = {
    "no encoding": (
        1,
        b"",
        Role.SERVER,
        Status.INTERNAL,
        "grpc: compressed flag set with identity or empty encoding",
    ),
    "identity": (
        1,
        b"identity",
        Role.CLIENT,
        Status.INTERNAL,
        "grpc: compressed flag set with identity or empty encoding",
    ),
    "by a client": (
        1,
        b"gzip",
        Role.SERVER,
        Status.UNIMPLEMENTED,
        'grpc: Decompressor is not installed for grpc-encoding "gzip"',
    ),
    "by a server": (
        1,
        b"gzip",
        Role.CLIENT,
        Status.INTERNAL,
        'grpc: Decompressor is not installed for grpc-encoding "gzip"',
    ),
    "no such flag": (
        2,
        b"gzip",
        Role.SERVER,
        Status.INTERNAL,
        "grpc: received unexpected payload format 2",
    ),
}


@pytest.mark.parametrize(
    ("flag", "encoding", "role", "status", "text"), FLAGGED.values(), ids=FLAGGED
)
def test_a_message_with_a_flag_is_refused_with_gos_text(
    flag: int, encoding: bytes, role: Role, status: Status, text: str
) -> None:
    reading = Reading(encoding=encoding, role=role)
    with pytest.raises(GrpcError) as caught:
        reading.feed(bytes([flag]) + prefix(4)[1:])
    assert (caught.value.status, caught.value.message) == (status, text)


def test_a_message_too_long_is_so_whatever_its_flag() -> None:
    with pytest.raises(GrpcError) as caught:
        Reading(limit=3).feed(b"\x01" + prefix(4)[1:])
    assert caught.value.status is Status.RESOURCE_EXHAUSTED
