"""Messages inside a connection: konnectivity's packets, gRPC's framing, control messages, what
agents say of themselves, and how failures are told."""

from collections.abc import Sequence

import msgpack

from ctl.messages import MAX_FRAME, Decoder, FrameError, encode
from frames import packet
from frames.grpc import GrpcError
from frames.grpcmessage import PREFIX_SIZE, MessageReader, prefix
from tests.fuzz.target import Target, same_for_all_cuts
from tunneld.agentinfo import AgentInfo, AgentInfoError
from tunneld.dialing import DialError
from tunneld.dialrecord import read_steps
from tunneld.identifiers import IdentifiersError, parse_foreign_identifiers, parse_identifiers
from tunneld.server.claims import Claims, as_address
from tunneld.tokenproof import parse_authorization

_LIMIT = 1_000


def run_packet(octets: bytes) -> None:
    """A Packet, and what it becomes when it is sent on."""
    try:
        found = packet.parse(memoryview(octets))
    except packet.PacketError:
        return
    wire = packet.serialize(found)
    again = packet.parse(memoryview(wire))
    assert type(again) is type(found)
    assert packet.serialize(again) == wire
    assert len(wire) <= len(octets) + 100


def run_grpc(octets: bytes) -> None:
    """Messages with their prefixes."""
    same_for_all_cuts(octets, _messages)


def _messages(parts: Sequence[bytes]) -> object:
    found: list[bytes] = []
    reader = MessageReader(lambda view: found.append(bytes(view)), _LIMIT)
    for part in parts:
        try:
            reader.feed(memoryview(part))
        except GrpcError as exc:
            return found, exc.status, exc.message
        assert len(reader._partial) < _LIMIT + PREFIX_SIZE
    return found, reader.empty


def run_control(octets: bytes) -> None:
    """Control messages, in whatever pieces."""
    same_for_all_cuts(octets, _control)


def _control(parts: Sequence[bytes]) -> object:
    """What is decoded, packed again: a NaN equals nothing, not even itself."""
    decoder, found = Decoder(), [b""][:0]
    try:
        for part in parts:
            decoder.feed(part)
            while (message := decoder.next_message()) is not None:
                assert all(isinstance(key, str) for key in message)
                found.append(msgpack.packb(message, use_bin_type=True, datetime=False))
                _check_again(message)
            assert decoder.missing() >= 1
            assert len(decoder._buffer) <= MAX_FRAME + len(part)
    except FrameError:
        return found, "refused"
    return found


def _check_again(message: dict[str, object]) -> None:
    decoder = Decoder()
    decoder.feed(encode(message))
    again = decoder.next_message()
    assert msgpack.packb(again, use_bin_type=True) == msgpack.packb(message, use_bin_type=True)


def run_agent_info(octets: bytes) -> None:
    """An agent's answer to who it is."""
    try:
        info = AgentInfo.decode(octets)
    except AgentInfoError:
        return
    assert AgentInfo.decode(info.encode()) == info
    Claims(parse_foreign_identifiers(info.identifiers))
    parse_authorization(info.authorization)


def run_identifiers(octets: bytes) -> None:
    """Identifiers as an agent of another make says them."""
    text = octets.decode("latin-1")
    try:
        found = parse_foreign_identifiers(text)
    except IdentifiersError:
        found = {}
    claims = Claims(found)
    for host in ("a.example", "10.0.0.1", "fd00::1", "fe80::1"):
        claims.rank(host, as_address(host))
    try:
        ours = parse_identifiers(text)
    except IdentifiersError:
        return
    assert ours == found


def run_proxy_status(octets: bytes) -> None:
    """A failure as an agent tells it, and as it is told on."""
    text = octets.decode("latin-1")
    error = DialError.from_proxy_status(502, text)
    again = DialError.from_proxy_status(502, error.proxy_status("tunneld-test"))
    assert again.kind.error == error.kind.error
    if str(error).isascii() and str(error).isprintable() and len(str(error)) <= 1_000:
        assert str(again) == str(error)
    assert str(DialError.from_text(text)) == text
    for ms, name, words in read_steps(text):
        assert isinstance(ms, float)
        assert len(name) <= 40
        assert len(words) <= 1_000


def _packets() -> list[bytes]:
    found: list[packet.Packet] = [
        packet.DialRequest("tcp", "a.example:80", 7),
        packet.DialResponse("refused", 3, -7),
        packet.CloseRequest(5),
        packet.CloseResponse("EOF", 5),
        packet.CloseDial(9),
        packet.Drain(),
        packet.Data(3, b"octets", ""),
        packet.Data(3, b"octets", "odd", b"\x52\x01x"),
    ]
    return [packet.serialize(each) for each in found]


_CONTROL = [
    encode({"id": 1, "method": "hello", "params": {"version": 1, "client": "x"}}),
    encode({"id": 2, "method": "status", "params": {}}) * 3,
    encode({"id": 3, "result": {"a": [1, 2.5, None, True, b"x", "é"]}}),
    encode({"id": 3, "error": {"code": "failed", "message": "m", "hint": ""}}),
]
_STATUS = b'tunneld-agent; error=connection_refused; details="dial \\"x\\": no"; dial="ab12"'

TARGETS = [
    Target("packet", run_packet, _packets(), [b"\x08\x04\x22", b"\x1a\x02", b"\x08", b"\xff\x01"]),
    Target(
        "grpc",
        run_grpc,
        [
            prefix(5) + b"hello",
            prefix(0) * 3,
            prefix(999) + bytes(999),
            prefix(3) + b"abc" + prefix(9),
        ],
        [prefix(0), prefix(1_000), prefix(1_001), b"\x01\x00\x00\x00\x00"],
    ),
    Target(
        "control",
        run_control,
        _CONTROL,
        [b"\0\0\0\x01\x80", b"\xc7\x00\x05", b"\x81\xa1a", b"\x91"],
    ),
    Target(
        "agent-info",
        run_agent_info,
        [
            AgentInfo("demo", "host=a.example&default-route=true").encode(),
            b'{"agent-id":"a","later":{"deep":[1,2,{"x":null}]}}',
        ],
        [b'"agent-id":', b"[", b"{", b'"\\ud800"', b"1e999", b"cidr=fe80::1%25x/64&", b"null"],
    ),
    Target(
        "identifiers",
        run_identifiers,
        [
            b"host=a.example&ipv4=10.0.0.1&ipv6=fd00::1&cidr=10.0.0.0/8&default-route=true",
            b"cidr=fd00::/8&cidr=1.2.3.4&default-route=F",
        ],
        [
            b"%",
            b"%2",
            b"%25",
            b"&",
            b"=",
            b";",
            b"+",
            b"cidr=",
            b"ipv6=fe80::1%25a",
            b"default-route=",
        ],
    ),
    Target(
        "proxy-status",
        run_proxy_status,
        [_STATUS, b'[[1.5,"dns","10.0.0.1"],[2,"connect","ok"]]', b"x; error=dns_error"],
        [
            b'; details="',
            b"; error=",
            b'\\"',
            b"\\",
            b'"',
            b";",
            b" ",
            b"9" * 310,
            b"[[",
            b"NaN",
            b"[" * 1_000,
        ],
    ),
]
