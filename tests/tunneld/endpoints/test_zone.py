"""Host records: the answer to each kind of query, and to anything else."""

import dns.edns
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdatatype
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunneld.endpoints.zone import MAX_UDP, Zone, ZoneError

ZONE = Zone(
    {
        "local-server.svc": "192.168.1.2",
        "both.svc": ("192.168.1.3", "2001:db8::3"),
        "alias.svc": "192.168.1.3",
        "many.svc": [f"10.0.{number // 250}.{number % 250 + 1}" for number in range(1000)],
    }
)


def ask(name: str, kind: str = "A", zone: Zone = ZONE, **options: int) -> dns.message.Message:
    query = dns.message.make_query(name, kind, **options)  # type: ignore[arg-type]
    wire = zone.respond_udp(query.to_wire())
    assert wire is not None
    response = dns.message.from_wire(wire)
    assert response.id == query.id
    assert response.flags & dns.flags.QR
    assert response.question == query.question
    return response


def answers(response: dns.message.Message) -> list[str]:
    return sorted(record.to_text() for rrset in response.answer for record in rrset)


@pytest.mark.parametrize(
    ("name", "kind", "expected"),
    [
        ("local-server.svc", "A", ["192.168.1.2"]),
        ("both.svc", "A", ["192.168.1.3"]),
        ("both.svc", "AAAA", ["2001:db8::3"]),
        ("both.svc", "ANY", ["192.168.1.3", "2001:db8::3"]),
        ("2.1.168.192.in-addr.arpa", "PTR", ["local-server.svc."]),
        ("3.1.168.192.in-addr.arpa", "PTR", ["alias.svc.", "both.svc."]),
        (dns.name.from_text("3." + "0." * 23 + "8.b.d.0.1.0.0.2.ip6.arpa").to_text(), "PTR", None),
    ],
)
def test_known_name_is_answered(name: str, kind: str, expected: list[str] | None) -> None:
    response = ask(name, kind)
    assert response.rcode() == dns.rcode.NOERROR
    assert response.flags & dns.flags.AA
    assert answers(response) == (expected or ["both.svc."])


@pytest.mark.parametrize("name", ["svc", "other.svc", "x.local-server.svc", "example.org", "svcx"])
def test_which_names_do_not_exist(name: str) -> None:
    response = ask(name)
    expected = dns.rcode.NOERROR if name == "svc" else dns.rcode.NXDOMAIN
    assert response.rcode() == expected
    assert answers(response) == []


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("local-server.svc", "AAAA"),
        ("local-server.svc", "MX"),
        ("local-server.svc", "PTR"),
        ("2.1.168.192.in-addr.arpa", "A"),
        ("svc", "A"),
        (".", "A"),
        ("1.168.192.in-addr.arpa", "PTR"),
    ],
)
def test_known_name_without_that_type_has_no_data(name: str, kind: str) -> None:
    """AA must be set: resolvers take an empty answer without it for a referral."""
    response = ask(name, kind)
    assert response.rcode() == dns.rcode.NOERROR
    assert response.flags & dns.flags.AA
    assert answers(response) == []


def test_case_does_not_matter_and_comes_back_as_it_was() -> None:
    response = ask("LoCal-SeRver.SVC")
    assert answers(response) == ["192.168.1.2"]
    assert response.answer[0].name.to_text() == "LoCal-SeRver.SVC."


def test_recursion_desired_is_copied_and_not_offered() -> None:
    response = ask("both.svc")
    assert response.flags & dns.flags.RD
    assert not response.flags & dns.flags.RA


def test_edns_is_answered_by_edns() -> None:
    response = ask("both.svc", use_edns=0, payload=4096)
    assert response.edns == 0
    assert response.payload == MAX_UDP
    assert answers(response) == ["192.168.1.3"]
    assert ask("both.svc").edns == -1


def test_unknown_edns_options_are_tolerated() -> None:
    query = dns.message.make_query("both.svc", "A")
    query.use_edns(0, options=[dns.edns.GenericOption("65001", b"x")])
    response = dns.message.from_wire(ZONE.respond_udp(query.to_wire()) or b"")
    assert answers(response) == ["192.168.1.3"]


def test_later_edns_version_is_bad_version() -> None:
    response = ask("both.svc", use_edns=1)
    assert response.rcode() == dns.rcode.BADVERS
    assert response.edns == 0
    assert answers(response) == []


@pytest.mark.parametrize(
    ("options", "count"),
    [
        ({}, 30),
        ({"use_edns": 0, "payload": 100}, 29),  # less than 512 counts as 512, RFC 6891 6.2.3
        ({"use_edns": 0, "payload": 900}, 53),
        ({"use_edns": 0, "payload": 65535}, 74),
    ],
)
def test_answer_over_udp_is_whole_as_long_as_it_fits(options: dict[str, int], count: int) -> None:
    addresses = [f"10.0.0.{number}" for number in range(1, 101)]
    fits = ask("many.svc", "A", Zone({"many.svc": addresses[:count]}), **options)
    assert len(answers(fits)) == count
    assert not fits.flags & dns.flags.TC
    too_long = ask("many.svc", "A", Zone({"many.svc": addresses[: count + 1]}), **options)
    assert answers(too_long) == []
    assert too_long.flags & dns.flags.TC


def test_long_answer_is_whole_over_tcp() -> None:
    wire = ZONE.respond_tcp(dns.message.make_query("many.svc", "A").to_wire())
    response = dns.message.from_wire(wire or b"")
    assert len(answers(response)) == 1000
    assert not response.flags & dns.flags.TC


@pytest.mark.parametrize("kind", ["AXFR", "IXFR"])
def test_zone_transfer_is_refused(kind: str) -> None:
    assert ask("svc", kind).rcode() == dns.rcode.REFUSED


def test_other_classes_are_refused() -> None:
    query = dns.message.make_query("both.svc", "A", rdclass="CH")
    response = dns.message.from_wire(ZONE.respond_udp(query.to_wire()) or b"")
    assert response.rcode() == dns.rcode.REFUSED


@pytest.mark.parametrize("opcode", [dns.opcode.STATUS, dns.opcode.NOTIFY, dns.opcode.UPDATE])
def test_other_operations_are_not_implemented(opcode: dns.opcode.Opcode) -> None:
    query = dns.message.make_query("both.svc", "A")
    query.set_opcode(opcode)
    wire = ZONE.respond_udp(query.to_wire())
    assert wire is not None
    assert len(wire) == 12
    assert wire[:2] == query.to_wire()[:2]
    assert wire[3] & 15 == dns.rcode.NOTIMP


@pytest.mark.parametrize(
    "wire",
    [
        bytes.fromhex("1234 0100 0000 0000 0000 0000"),  # no question
        bytes.fromhex("1234 0100 0002 0000 0000 0000") + b"\x01a\x00\x00\x01\x00\x01" * 2,
        bytes.fromhex("1234 0100 0001 0000 0000 0000") + b"\x01a",  # cut short
        bytes.fromhex("1234 0100 0001 0000 0000 0000") + b"\xc0\x0c\x00\x01\x00\x01",  # loop
        bytes.fromhex("1234 0100 0001 0000 0000 0000") + b"\x01a\x00\x00\x01\x00\x01trailing",
        bytes.fromhex("1234 0100 0001 0000 0000 0001") + b"\x01a\x00\x00\x01\x00\x01\x00\x00",
    ],
)
def test_malformed_query_is_a_format_error_with_its_id(wire: bytes) -> None:
    assert ZONE.respond_udp(wire) == bytes.fromhex("1234 8101 0000 0000 0000 0000")


@pytest.mark.parametrize("wire", [b"", b"\x12\x34", bytes(11)])
def test_what_is_shorter_than_a_header_is_ignored(wire: bytes) -> None:
    assert ZONE.respond_udp(wire) is None


def test_answers_are_not_answered() -> None:
    response = ZONE.respond_udp(dns.message.make_query("both.svc", "A").to_wire())
    assert response is not None
    assert ZONE.respond_udp(response) is None


@given(st.binary(max_size=600))
def test_any_octets_are_ignored_or_answered(wire: bytes) -> None:
    check_answer(wire)


def check_answer(wire: bytes) -> None:
    for answer in (ZONE.respond_udp(wire), ZONE.respond_tcp(wire)):
        if answer is not None:
            assert answer[:2] == wire[:2]
            assert answer[2] & 0x80
            dns.message.from_wire(answer)
            assert ZONE.respond_udp(answer) is None


names = st.lists(st.binary(min_size=1, max_size=63), max_size=3).map(
    lambda labels: b"".join(bytes([len(each)]) + each for each in labels) + b"\x00"
)
questions = st.one_of(
    names, st.sampled_from([b"\x05alias\x03svc\x00", b"\x04many\x03svc\x00", b"\xc0\x0c"])
)
records = st.tuples(
    st.one_of(names, st.just(b"\x00"), st.just(b"\xc0\x0c")),
    st.sampled_from([b"\x00\x29", b"\x00\xfa", b"\x00\x01", b"\x00\x18", b"\xff\xff"]),
    st.binary(min_size=6, max_size=6),
    st.binary(max_size=40),
).map(lambda parts: b"".join(parts[:3]) + len(parts[3]).to_bytes(2, "big") + parts[3])


@given(
    flags=st.integers(0, 0xFFFF),
    counts=st.lists(st.integers(0, 2), min_size=4, max_size=4),
    question=questions,
    kind=st.integers(0, 0xFFFF),
    rdclass=st.sampled_from([1, 3, 254, 255]),
    extra=st.lists(records, max_size=3),
)
def test_anything_that_looks_like_a_query_is_ignored_or_answered(
    flags: int, counts: list[int], question: bytes, kind: int, rdclass: int, extra: list[bytes]
) -> None:
    header = b"\x12\x34" + b"".join(each.to_bytes(2, "big") for each in [flags, *counts])
    tail = kind.to_bytes(2, "big") + rdclass.to_bytes(2, "big")
    check_answer(header + question + tail + b"".join(extra))


@given(st.data())
def test_damaged_queries_are_ignored_or_answered(data: st.DataObject) -> None:
    query = dns.message.make_query("local-server.svc", "A", use_edns=0, want_dnssec=True)
    wire = bytearray(query.to_wire())
    for _ in range(data.draw(st.integers(1, 4))):
        wire[data.draw(st.integers(0, len(wire) - 1))] = data.draw(st.integers(0, 255))
    check_answer(bytes(wire[: data.draw(st.integers(0, len(wire)))]))


@pytest.mark.parametrize(
    ("records_", "says"),
    [
        ({"a..b": "1.2.3.4"}, "'a..b' is not a host name"),
        ({"x" * 64: "1.2.3.4"}, "is not a host name"),
        ({"": "1.2.3.4"}, "is not a host name, expected one as in local-server.svc"),
        ({"*.svc": "1.2.3.4"}, "is not a host name"),
        ({"a.svc": "1.2.3"}, r"a\.svc\. has '1\.2\.3', expected an IPv4 or IPv6 address"),
        ({"a.svc": ["1.2.3.4", "b.svc"]}, r"a\.svc\. has 'b\.svc'"),
    ],
)
def test_record_that_cannot_be_is_refused(records_: dict[str, str | list[str]], says: str) -> None:
    with pytest.raises(ZoneError, match=says):
        Zone(records_)


def test_names_of_records_may_have_a_dot_at_the_end_and_any_case() -> None:
    assert answers(ask("a.svc", zone=Zone({"A.Svc.": "1.2.3.4"}))) == ["1.2.3.4"]


def test_empty_zone_knows_nothing() -> None:
    assert ask("a.svc", zone=Zone({})).rcode() == dns.rcode.NXDOMAIN
