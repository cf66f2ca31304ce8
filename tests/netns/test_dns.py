"""DNS queries and responses, bytes only; dnspython is the independent other side."""

from contextlib import suppress
from ipaddress import ip_address

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st

from netns.dns import Answer, DnsError, RecordType, parse_response, serialize_query

labels = st.from_regex(r"[a-z][a-z0-9-]{0,20}", fullmatch=True)
names = st.lists(labels, min_size=1, max_size=5).map(".".join)


def response(name: str, addresses: list[str], kind: str = "A") -> dns.message.Message:
    query = dns.message.from_wire(serialize_query(9, name, RecordType[kind]))
    made = dns.message.make_response(query)
    if addresses:
        made.answer.append(dns.rrset.from_text(f"{name}.", 60, "IN", kind, *addresses))
    return made


@given(names, st.integers(0, 0xFFFF), st.sampled_from(RecordType))
def test_query_is_one_that_others_read(name: str, identifier: int, kind: RecordType) -> None:
    message = dns.message.from_wire(serialize_query(identifier, name, kind))
    (question,) = message.question
    assert message.id == identifier
    assert message.flags & dns.flags.RD
    assert question.name.to_text(omit_final_dot=True) == name
    assert int(question.rdtype) == int(kind)


@given(names, st.lists(st.ip_addresses(v=4).map(str), max_size=4, unique=True))
def test_addresses_that_others_write_are_read(name: str, addresses: list[str]) -> None:
    answer = parse_response(response(name, addresses).to_wire(), 9, RecordType.A)
    assert set(answer.addresses) == {ip_address(text) for text in addresses}


def test_ipv6_addresses_are_read() -> None:
    answer = parse_response(response("a.b", ["fd00::1"], "AAAA").to_wire(), 9, RecordType.AAAA)
    assert answer == Answer(0, (ip_address("fd00::1"),))


def test_other_records_on_the_way_are_passed_over() -> None:
    made = response("a.b", ["10.0.0.1"])
    made.answer.insert(0, dns.rrset.from_text("a.b.", 60, "IN", "CNAME", "c.d."))
    assert parse_response(made.to_wire(), 9, RecordType.A).addresses == (ip_address("10.0.0.1"),)


def test_no_such_name_is_an_answer() -> None:
    made = response("a.b", [])
    made.set_rcode(dns.rcode.NXDOMAIN)
    assert parse_response(made.to_wire(), 9, RecordType.A) == Answer(3, ())


def test_response_to_another_query_is_refused() -> None:
    with pytest.raises(DnsError, match="not the response to query 8"):
        parse_response(response("a.b", []).to_wire(), 8, RecordType.A)


def test_query_is_no_response() -> None:
    with pytest.raises(DnsError):
        parse_response(serialize_query(9, "a.b", RecordType.A), 9, RecordType.A)


@given(st.integers(0, 200))
def test_cut_response_is_refused(size: int) -> None:
    wire = response("a.b", ["10.0.0.1", "10.0.0.2"]).to_wire()
    cut = wire[: size % len(wire)]
    with pytest.raises(DnsError):
        parse_response(cut, 9, RecordType.A)


@given(st.binary(max_size=100))
def test_garbage_is_refused_or_read_and_nothing_else(data: bytes) -> None:
    head = bytes.fromhex("00098000")
    with suppress(DnsError):  # or it is a response by chance; anything else fails
        parse_response(head + data, 9, RecordType.A)


@pytest.mark.parametrize("name", ["", ".", "a..b", "a" * 64, ".".join(["a" * 60] * 5)])
def test_name_that_cannot_be_asked_is_refused(name: str) -> None:
    with pytest.raises(DnsError):
        serialize_query(1, name, RecordType.A)
