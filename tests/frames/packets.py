"""Packets for property tests, and the octets of messages: as anybody may write them, or nobody."""

from collections.abc import Iterable

from hypothesis import strategies as st

from frames import packet
from frames.packet import Packet


def varint(value: int, size: int = 1) -> bytes:
    """``value`` in ``size`` octets, or in as many as it takes."""
    octets = [value >> shift & 0x7F for shift in range(0, max(7 * size, value.bit_length(), 1), 7)]
    return bytes([octet | 0x80 for octet in octets[:-1]] + octets[-1:])


def field(number: int, wire_type: int, value: bytes, tag_size: int = 1) -> bytes:
    """``value`` has its own length before it, if the wire type is 2."""
    return varint(number << 3 | wire_type, tag_size) + value


def counted(octets: bytes, size: int = 1) -> bytes:
    return varint(len(octets), size) + octets


# -- packets --------------------------------------------------------------------------------------

int64s = st.one_of(
    st.integers(-(2**63), 2**63 - 1),
    st.sampled_from([0, 1, 127, 128, 2**14 - 1, 2**14, 2**63 - 1, -1, -(2**63)]),
)
_texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
_unknown = st.one_of(
    st.just(b""),
    st.builds(field, st.integers(9, 2**29 - 1), st.just(2), st.binary(max_size=9).map(counted)),
)

packets: st.SearchStrategy[Packet] = st.one_of(
    st.builds(packet.DialRequest, _texts, _texts, int64s, _unknown),
    st.builds(packet.DialResponse, _texts, int64s, int64s, _unknown),
    st.builds(packet.CloseRequest, int64s, _unknown),
    st.builds(packet.CloseResponse, _texts, int64s, _unknown),
    st.builds(packet.CloseDial, int64s, _unknown),
    st.builds(packet.Drain, _unknown),
    st.builds(packet.Data, int64s, st.binary(max_size=300), _texts, _unknown),
)
"""All but `Unknown`."""


# -- octets ---------------------------------------------------------------------------------------

_MAX_OVERLONG_TAG = 5
"""Octets of a tag or a length: Go takes ten, as we do, but protobuf's other code five."""

_varints = st.builds(
    varint,
    st.one_of(st.integers(0, 9), st.integers(0, 2**64 - 1), int64s.map(lambda n: n % 2**64)),
    st.integers(1, 10),
)
_overlong = st.one_of(st.just(1), st.integers(1, _MAX_OVERLONG_TAG))


def _fields(numbers: Iterable[int], contents: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    number = st.sampled_from(list(numbers))
    return st.one_of(
        st.builds(field, number, st.just(0), _varints, _overlong),
        st.builds(field, number, st.just(1), st.binary(min_size=8, max_size=8), _overlong),
        st.builds(field, number, st.just(5), st.binary(min_size=4, max_size=4), _overlong),
        st.builds(field, number, st.just(2), st.builds(counted, contents, _overlong), _overlong),
    )


def _joined(fields: st.SearchStrategy[bytes], max_size: int) -> st.SearchStrategy[bytes]:
    return st.lists(fields, max_size=max_size).map(b"".join)


_strings = st.one_of(
    _texts.map(str.encode), st.sampled_from([b"\xff", b"\xc0\x80", b"\xed\xa0\x80"])
)
_members = _joined(_fields(range(1, 6), _strings), 4)
_types = st.builds(field, st.just(1), st.just(0), st.integers(0, 7).map(varint))
_payloads = st.builds(field, st.integers(2, 8), st.just(2), _members.map(counted))

messages = _joined(
    st.one_of(_types, _payloads, _fields([*range(1, 10), 100, 2**29 - 1], _members)), 6
)
"""Well-formed but for strings, and seldom in the form that a program would write."""
