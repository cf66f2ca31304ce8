"""Packets as octets. Literal messages are what Go programs send, whole, with gRPC's prefix."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frames.grpc import PREFIX_SIZE, prefix
from frames.packet import (
    MAX_DATA_HEADER,
    CloseDial,
    CloseRequest,
    CloseResponse,
    Data,
    DialRequest,
    DialResponse,
    Drain,
    Packet,
    PacketError,
    PacketType,
    Unknown,
    data_header,
    parse,
    serialize,
)
from tests.frames.packets import counted, field, int64s, messages, packets, varint

RANDOM = 534276311401077216


def parsed(octets: str | bytes) -> Packet:
    return parse(memoryview(bytes.fromhex(octets) if isinstance(octets, str) else octets))


FROM_GO: dict[str, tuple[Packet, str]] = {
    "DIAL_REQ": (
        DialRequest("tcp", "127.0.0.1:18080", RANDOM),
        "00 00000022 12 20 0a03 746370 120f 3132372e302e302e313a3138303830 18 e0b3dec797af88b507",
    ),
    "DIAL_RSP": (DialResponse("", 1, RANDOM), "00 00000010 0801 1a0c 1001 18 e0b3dec797af88b507"),
    "CLOSE_REQ": (CloseRequest(1), "00 00000006 0802 2a02 0801"),
    "CLOSE_RSP": (CloseResponse("", 1), "00 00000006 0803 3202 1001"),
    "CLOSE_RSP with an error": (
        CloseResponse("Unknown connectID", 1),
        "00 00000019 0803 3215 0a11 556e6b6e6f776e20636f6e6e6563744944 1001",
    ),
    "DRAIN": (Drain(), "00 00000004 0806 4200"),
}
LAID_OUT: dict[str, tuple[Packet, str]] = {
    "DIAL_CLS": (CloseDial(-1), "00 0000000f 0805 3a0b 08 ffffffffffffffffff01"),
    "DATA": (Data(1, b"abc", ""), "00 0000000b 0804 2207 0801 1a03 616263"),
    "DATA with an error": (Data(1, b"abc", "e"), "00 0000000e 0804 220a 0801 1201 65 1a03 616263"),
    "DATA, all default": (Data(0, b"", ""), "00 00000004 0804 2200"),
    "DIAL_REQ, all default": (DialRequest("", "", 0), "00 00000002 1200"),
    "unknown fields": (Drain(b"\xa0\x06\x05"), "00 00000007 0806 4200 a00605"),
    "unknown type": (Unknown(64, b"\x08\x40\xa0\x06\x05"), "00 00000005 0840 a00605"),
}


@pytest.mark.parametrize(("packet", "octets"), [*FROM_GO.values(), *LAID_OUT.values()])
def test_a_packet_is_laid_out_as_by_go(packet: Packet, octets: str) -> None:
    message = bytes.fromhex(octets)
    assert prefix(len(message) - PREFIX_SIZE) + serialize(packet) == message
    assert parsed(message[PREFIX_SIZE:]) == packet


@given(packets)
def test_a_packet_is_parsed_as_it_was_serialized(packet: Packet) -> None:
    assert parsed(serialize(packet)) == packet


@given(st.binary(max_size=60))
def test_any_octets_are_a_packet_or_an_error(octets: bytes) -> None:
    try:
        parsed(octets)
    except PacketError:
        pass


@given(messages, st.data())
def test_cut_off_or_altered_messages_are_a_packet_or_an_error(
    message: bytes, draw: st.DataObject
) -> None:
    octets = bytearray(message[: draw.draw(st.integers(0, len(message)))])
    if octets:
        octets[draw.draw(st.integers(0, len(octets) - 1))] = draw.draw(st.integers(0, 255))
    try:
        packet = parsed(bytes(octets))
    except PacketError:
        return
    assert parsed(serialize(packet)) == packet


# -- what is tolerated ----------------------------------------------------------------------------

TOLERATED: dict[str, tuple[str, Packet]] = {
    "empty": ("", DialRequest("", "", 0)),
    "payload before type": ("2a02 0801 0802", CloseRequest(1)),
    "fields of a payload in any order": (
        "1208 1807 1201 61 0a01 62",
        DialRequest("b", "a", 7),
    ),
    "last type": ("0801 2a02 0801 0802", CloseRequest(1)),
    "last scalar": ("0802 2a04 0801 0802", CloseRequest(2)),
    "same payload twice, merged": ("1203 0a01 61 1202 1807", DialRequest("a", "", 7)),
    "other payload last": ("0802 2a02 0801 3202 1005", CloseRequest(0)),
    "other payload first": ("0802 3202 1005 2a02 0801", CloseRequest(1)),
    "payload, another, payload": ("1203 0a01 61 4200 1202 1807", DialRequest("", "", 7)),
    "payload of another type": ("0804 2a02 0801", Data(0, b"", "")),
    "payload absent": ("0803", CloseResponse("", 0)),
    "unknown fields within": (
        "0802 2a13 f80105 790000000000000000 7d00000000 0801",
        CloseRequest(1),
    ),
    "known field of a wrong kind within": ("0802 2a07 0a01 61 0801 0a00", CloseRequest(1)),
    "string and octets of a wrong kind": (
        "0804 2209 0801 1005 1807 1a01 61",
        Data(1, b"a", ""),
    ),
    "unknown fields around": (
        "a00605 0802 a10600 0000000000 0000 2a02 0801 a50600 000000 a20602 6162",
        CloseRequest(1, bytes.fromhex("a00605 a10600 0000000000 0000 a50600 000000 a20602 6162")),
    ),
    "known field of a wrong kind": (
        "0802 0a01 62 28 05",
        CloseRequest(0, bytes.fromhex("0a01622805")),
    ),
    "varints longer than they need be": (
        "88808000 828000 aa00 8b00 08 81808080808080808000",
        CloseRequest(1),
    ),
    "type of more than 32 bits": ("08 8480808080808001 22020805", Data(5, b"", "")),
    "type that no int32 holds": ("08 ffffffff0f", Unknown(-1, bytes.fromhex("08ffffffff0f"))),
    "negative type": (
        "08 ffffffffffffffffff01",
        Unknown(-1, bytes.fromhex("08 ffffffffffffffffff01")),
    ),
}


@pytest.mark.parametrize(("octets", "packet"), TOLERATED.values(), ids=TOLERATED)
def test_a_packet_may_be_written_otherwise(octets: str, packet: Packet) -> None:
    assert parsed(octets) == packet


DATA_OTHERWISE: dict[str, str] = {
    "payload's fields in another order": "0804 2207 1a03 616263 0805",
    "type last": "2207 0805 1a03 616263 0804",
    "empty error": "0804 2209 0805 1200 1a03 616263",
    "connection id twice": "0804 2209 0801 0805 1a03 616263",
    "payload twice": "0804 220c 0805 1a03 646566 1a03 616263",
    "in two pieces": "0804 2202 0805 2205 1a03 616263",
    "unknown field": "0804 2209 0805 1a03 616263 2000",
    "long member length": "0804 22878000 0805 1a03 616263",
    "long connection id": "0804 2209 08858000 1a03 616263",
    "long payload length": "0804 2209 0805 1a838000 616263",
    "type twice": "0804 0804 2207 0805 1a03 616263",
}


@pytest.mark.parametrize("octets", DATA_OTHERWISE.values(), ids=DATA_OTHERWISE)
def test_data_may_be_written_otherwise(octets: str) -> None:
    assert parsed(octets) == Data(5, b"abc", "")


SHORT_DATA: dict[str, tuple[str, Data]] = {
    "empty": ("0804 2204 0805 1a00", Data(5, b"", "")),
    "without payload, long id": ("0804 2204 08 858000", Data(5, b"", "")),
    "without payload": ("0804 2203 08 8500", Data(5, b"", "")),
    "of connection 0": ("0804 2205 1a03 616263", Data(0, b"abc", "")),
    "nothing, said at length": ("0804 22 8080808000", Data(0, b"", "")),
    "id alone, said at length": ("0804 22 8280808000 0805", Data(5, b"", "")),
}


@pytest.mark.parametrize(("octets", "packet"), SHORT_DATA.values(), ids=SHORT_DATA)
def test_data_may_be_short(octets: str, packet: Data) -> None:
    assert parsed(octets) == packet


@pytest.mark.parametrize(
    "octets",
    [
        "0804 2207 0805 1a03 616263",  # the ordinary form, and one that is not
        "0804 2209 0805 1200 1a03 616263",
    ],
)
def test_the_payload_of_data_is_a_view_of_the_message(octets: str) -> None:
    message = bytearray.fromhex(octets)
    packet = parse(memoryview(message))
    assert isinstance(packet, Data)
    message[-3:] = b"xyz"
    assert packet.data == b"xyz"


def test_all_but_the_payload_of_data_outlives_the_message() -> None:
    message = bytearray(serialize(DialRequest("tcp", "a:1", 5, b"\xa0\x06\x05")))
    packet = parse(memoryview(message))
    unknown = parse(memoryview(bytearray(b"\x08\x40")))
    message[:] = bytes(len(message))
    message.clear()  # raises if a view of it is left
    assert packet == DialRequest("tcp", "a:1", 5, b"\xa0\x06\x05")
    assert unknown == Unknown(64, b"\x08\x40")


# -- what is refused ------------------------------------------------------------------------------

REFUSED: dict[str, tuple[str, str]] = {
    "octets that are not UTF-8": ("1203 0a01 ff", "protocol is not UTF-8"),
    "a surrogate": ("0803 3205 0a03 eda080", "error is not UTF-8"),
    "a string of a payload that does not count": ("0804 1203 1201 ff", "address is not UTF-8"),
    "a string of a payload that is replaced": ("1203 1201 ff 4200", "address is not UTF-8"),
    "a group": ("0806 4b4c", "field 9 of wire type 3"),
    "a group within": ("0802 2a02 4b4c", "field 9 of wire type 3"),
    "a payload that breaks off": ("0802 2a03 0801", "field 5 lacks 1 octets"),
    "a payload's field that breaks off": ("1203 0a02 61", "field 1 lacks 1 octets"),
    "DATA that breaks off": ("0804 2207 0805 1a03 6162", "field 4 lacks 1 octets"),
    "DATA whose payload breaks off": ("0804 2206 0805 1a03 6162", "field 3 lacks 1 octets"),
    "DATA whose connection id breaks off": ("0804 2204 08 858080", "varint without an end"),
    "DATA whose payload's length breaks off": ("0804 2204 0805 1a 85", "varint without an end"),
    "DATA whose length breaks off": ("0804 22 8580808080", "varint without an end"),
    "DATA with a connection id of 65 bits": (
        "0804 220b 08 ffffffffffffffffff02",
        "varint of more than 64 bits",
    ),
}


@pytest.mark.parametrize(("octets", "text"), REFUSED.values(), ids=REFUSED)
def test_octets_that_are_no_packet_are_refused(octets: str, text: str) -> None:
    with pytest.raises(PacketError, match=f"^{text}$"):
        parsed(octets)


def test_a_message_of_very_many_fields_is_refused() -> None:
    field_of_ours = field(100, 0, b"\x01")
    assert parsed(field_of_ours * 100) == DialRequest("", "", 0, field_of_ours * 100)
    with pytest.raises(PacketError, match="more than 100 fields"):
        parsed(field_of_ours * 101)
    with pytest.raises(PacketError, match="more than 100 fields"):
        parsed(field(2, 2, counted(b"\x18\x01" * 101)))


# -- numbers and texts ----------------------------------------------------------------------------


@given(int64s)
def test_ids_are_echoed_to_the_bit(number: int) -> None:
    assert parsed(serialize(DialRequest("", "", number))) == DialRequest("", "", number)
    assert parsed(serialize(DialResponse("", number, number))) == DialResponse("", number, number)
    assert parsed(data_header(number, 3) + b"abc") == Data(number, b"abc", "")


def test_a_negative_id_takes_ten_octets() -> None:
    assert serialize(CloseDial(-2)).hex(" ", 1) == "08 05 3a 0b 08 fe ff ff ff ff ff ff ff ff 01"


@pytest.mark.parametrize("text", ["\ud800", "a\udcffb", "\udfff\ud800"])
def test_what_utf_8_does_not_have_becomes_a_question_mark(text: str) -> None:
    plain = "".join("?" if "\ud800" <= character <= "\udfff" else character for character in text)
    assert parsed(serialize(CloseResponse(text, 1))) == CloseResponse(plain, 1)


@pytest.mark.parametrize("packet_type", PacketType)
def test_every_type_is_parsed_as_such(packet_type: PacketType) -> None:
    assert parsed(b"\x08" + varint(packet_type)).type is packet_type


# -- DATA in two steps ----------------------------------------------------------------------------


@given(int64s, st.binary(min_size=1, max_size=300))
def test_header_and_payload_are_a_data_packet(connect_id: int, payload: bytes) -> None:
    assert data_header(connect_id, len(payload)) + payload == serialize(
        Data(connect_id, payload, "")
    )


@pytest.mark.parametrize(("size", "message"), [(4096, 4106), (32768, 32780)])
def test_the_header_is_as_long_as_with_go(size: int, message: int) -> None:
    assert len(data_header(127, size)) + size == message


def test_the_longest_header_is_that_of_a_negative_id() -> None:
    assert len(data_header(-1, 2**28 - 30)) == MAX_DATA_HEADER
    assert len(data_header(2**63 - 1, 2**28 - 30)) == MAX_DATA_HEADER - 1


def test_the_header_of_no_payload_is_a_packet_too() -> None:
    assert data_header(5, 0) == serialize(Data(5, b"", ""))
    assert data_header(0, 0) == serialize(Data(0, b"", ""))


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_data_of_any_buffer_is_serialized(kind: type) -> None:
    assert parsed(serialize(Data(1, kind(b"abc"), ""))) == Data(1, b"abc", "")
