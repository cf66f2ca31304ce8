"""Packets, by ours and by generated code: one reads what the other wrote, and as the other does.

Where they differ we do as Go does, but for the last two:

- Go refuses varints of more than 64 bits; protobuf's other code takes the lowest 64;
- Go takes tags and lengths of up to ten octets, protobuf's other code up to five;
- we refuse groups, which nobody sends, and messages of more than 100 fields.
"""

import importlib
import importlib.util
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from frames.packet import (
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
    parse,
    serialize,
)
from tests.conftest import need
from tests.frames.packets import messages, packets

_PROTO = Path(__file__).with_name("packet.proto")


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The class of Packet that protoc makes."""
    need(importlib.util.find_spec("grpc_tools"), "grpcio-tools")
    protoc = importlib.import_module("grpc_tools.protoc")
    directory = tmp_path_factory.mktemp("generated")
    arguments = ["protoc", f"-I{_PROTO.parent}", f"--python_out={directory}", _PROTO.name]
    assert protoc.main(arguments) == 0
    spec = importlib.util.spec_from_file_location(
        "packet_of_the_tests", directory / "packet_pb2.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Packet


_PAYLOADS: dict[int, Callable[[Any, bytes], Packet]] = {
    PacketType.DIAL_REQ: lambda packet, unknown: DialRequest(
        packet.dialRequest.protocol,
        packet.dialRequest.address,
        packet.dialRequest.random,
        unknown,
    ),
    PacketType.DIAL_RSP: lambda packet, unknown: DialResponse(
        packet.dialResponse.error,
        packet.dialResponse.connectID,
        packet.dialResponse.random,
        unknown,
    ),
    PacketType.CLOSE_REQ: lambda packet, unknown: CloseRequest(
        packet.closeRequest.connectID, unknown
    ),
    PacketType.CLOSE_RSP: lambda packet, unknown: CloseResponse(
        packet.closeResponse.error, packet.closeResponse.connectID, unknown
    ),
    PacketType.DATA: lambda packet, unknown: Data(
        packet.data.connectID, packet.data.data, packet.data.error, unknown
    ),
    PacketType.DIAL_CLS: lambda packet, unknown: CloseDial(packet.closeDial.random, unknown),
    PacketType.DRAIN: lambda packet, unknown: Drain(unknown),
}


def same(packet: Packet, theirs: Any) -> bool:
    """Whether ``packet`` says what ``theirs`` does. (What both don't know is compared by its
    octets, in the other direction.)"""
    if isinstance(packet, Unknown):
        return packet.type == theirs.type and packet.type not in _PAYLOADS
    return _PAYLOADS[theirs.type](theirs, packet.unknown) == packet


def ours(octets: bytes) -> Packet | PacketError:
    try:
        return parse(memoryview(octets))
    except PacketError as exc:
        return exc


def theirs(generated: Any, octets: bytes) -> Any:
    from google.protobuf.message import DecodeError

    try:
        return generated.FromString(octets)
    except DecodeError:
        return None


@given(packets)
def test_generated_code_reads_what_we_write(generated: Any, packet: Packet) -> None:
    read = generated.FromString(serialize(packet))
    assert same(packet, read)
    assert read.SerializeToString() == serialize(packet)


@given(messages)
def test_what_generated_code_reads_we_read_alike(generated: Any, message: bytes) -> None:
    packet, read = ours(message), theirs(generated, message)
    if isinstance(packet, PacketError):
        assert read is None
        return
    assert same(packet, read)
    if not isinstance(packet, Unknown):
        assert ours(read.SerializeToString()) == packet


_OURS_ALONE = re.compile("of wire type 3$|^varint of more than 64 bits$")


@given(st.one_of(st.binary(max_size=40), messages), st.data())
@example(bytes.fromhex("4b4c"), None)
@example(bytes.fromhex("08ffffffffffffffffff7f"), None)
def test_octets_that_we_refuse_generated_code_refuses_too(
    generated: Any, message: bytes, draw: st.DataObject | None
) -> None:
    octets = bytearray(message)
    if octets and draw is not None:
        octets[draw.draw(st.integers(0, len(octets) - 1))] = draw.draw(st.integers(0, 255))
    packet, read = ours(bytes(octets)), theirs(generated, bytes(octets))
    if isinstance(packet, PacketError):
        assert read is None or _OURS_ALONE.search(str(packet))
    elif read is not None:
        assert same(packet, read)


@pytest.mark.parametrize("octets", ["888080808000 04", "3a 828080808000 0805"])
def test_tags_and_lengths_may_be_longer_than_generated_code_takes(
    generated: Any, octets: str
) -> None:
    message = bytes.fromhex(octets)
    assert theirs(generated, message) is None
    assert not isinstance(ours(message), PacketError)
