"""Host records and the answers to DNS queries for them: octets in, octets out."""

import ipaddress
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence

import dns.edns
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.reversename
import dns.rrset
from dns.rdataclass import RdataClass
from dns.rdatatype import RdataType

TTL = 5
"""Seconds that an answer may be kept: a lab's names come and go."""

MAX_UDP = 1232
"""Octets of a UDP answer, if the client takes as much: passes every path without fragments."""

_PLAIN_UDP = 512
"""Octets of a UDP answer to a client without EDNS (RFC 1035 section 4.2.1)."""

MAX_TCP = 65535

_HEADER = struct.Struct(">6H")
_QR, _OPCODE, _RD = 0x8000, 0x7800, 0x0100

_REFUSED_TYPES = frozenset({RdataType.AXFR, RdataType.IXFR, RdataType.MAILA, RdataType.MAILB})


class ZoneError(ValueError):
    """A record that cannot be: the message says what was seen and what was expected."""


class Zone:
    """Addresses of host names, and the names of those addresses (PTR).

    Says NXDOMAIN for every other name, and "no data" for names that exist with other types or only
    as the parents of others (RFC 8020).
    """

    def __init__(self, records: Mapping[str, str | Sequence[str]]) -> None:
        """
        Raises:
          ZoneError: a name or an address is none.
        """
        self._sets: dict[tuple[dns.name.Name, RdataType], dns.rrset.RRset] = {}
        for text, addresses in records.items():
            name = _host_name(text)
            for address in [addresses] if isinstance(addresses, str) else addresses:
                self._add_host(name, address)
        owners = {name for name, _ in self._sets}
        self._names = owners | {parent for name in owners for parent in _parents(name)}

    def _add_host(self, name: dns.name.Name, text: str) -> None:
        try:
            address = ipaddress.ip_address(text)
        except ValueError as exc:
            raise ZoneError(f"{name} has {text!r}, expected an IPv4 or IPv6 address") from exc
        kind = RdataType.A if address.version == 4 else RdataType.AAAA
        self._add(name, kind, str(address))
        self._add(dns.reversename.from_address(str(address)), RdataType.PTR, name.to_text())

    def _add(self, name: dns.name.Name, kind: RdataType, value: str) -> None:
        rrset = self._sets.setdefault((name, kind), dns.rrset.RRset(name, RdataClass.IN, kind))
        rrset.add(dns.rdata.from_text(RdataClass.IN, kind, value), TTL)

    def respond_udp(self, wire: bytes) -> bytes | None:
        """The answer to a datagram, or None where none is due; truncated if it is too long."""
        return self._respond(wire, _udp_limit)

    def respond_tcp(self, wire: bytes) -> bytes | None:
        """The answer to a message of a TCP connection, without its length prefix."""
        return self._respond(wire, _tcp_limit)

    def _respond(self, wire: bytes, limit: Callable[[dns.message.Message], int]) -> bytes | None:
        if len(wire) < _HEADER.size:
            return None
        _, flags, questions, *_ = _HEADER.unpack_from(wire)
        if flags & _QR:  # an answer to an answer could go back and forth for ever
            return None
        if flags & _OPCODE:
            return _bare(wire, dns.rcode.NOTIMP)
        if questions != 1:
            return _bare(wire, dns.rcode.FORMERR)
        try:
            query = dns.message.from_wire(wire)
        except (dns.exception.DNSException, ValueError):
            return _bare(wire, dns.rcode.FORMERR)
        return self._answer(query).to_wire(max_size=limit(query), prefer_truncation=True)

    def _answer(self, query: dns.message.Message) -> dns.message.Message:
        response = dns.message.make_response(query, our_payload=MAX_UDP)
        if query.edns > 0:  # RFC 6891 section 6.1.3
            response.use_edns(0, payload=MAX_UDP)
            response.set_rcode(dns.rcode.BADVERS)
            return response
        question = query.question[0]
        if question.rdclass not in (RdataClass.IN, RdataClass.ANY) or (
            question.rdtype in _REFUSED_TYPES
        ):
            response.set_rcode(dns.rcode.REFUSED)
            return response
        # Without it a resolver takes an empty answer for a referral and asks elsewhere.
        response.flags |= dns.flags.AA
        if question.name not in self._names:
            response.set_rcode(dns.rcode.NXDOMAIN)
        response.answer.extend(self._find(question.name, question.rdtype))
        return response

    def _find(self, name: dns.name.Name, kind: RdataType) -> Iterator[dns.rrset.RRset]:
        kinds = (RdataType.A, RdataType.AAAA, RdataType.PTR) if kind == RdataType.ANY else (kind,)
        for each in kinds:
            found = self._sets.get((name, each))
            if found is not None:
                # The name as the client spelled it: some check that its case comes back.
                yield dns.rrset.from_rdata_list(name, TTL, list(found))


def _udp_limit(query: dns.message.Message) -> int:
    return _PLAIN_UDP if query.edns < 0 else min(max(query.payload, _PLAIN_UDP), MAX_UDP)


def _tcp_limit(query: dns.message.Message) -> int:
    return MAX_TCP


def _host_name(text: str) -> dns.name.Name:
    try:
        name = dns.name.from_text(text)
    except (dns.exception.DNSException, ValueError) as exc:
        raise ZoneError(f"{text!r} is not a host name: {exc}") from exc
    if name == dns.name.root or name.is_wild():
        raise ZoneError(f"{text!r} is not a host name, expected one as in local-server.svc")
    return name


def _parents(name: dns.name.Name) -> Iterator[dns.name.Name]:
    while name != dns.name.root:
        name = name.parent()
        yield name


def _bare(wire: bytes, code: dns.rcode.Rcode) -> bytes:
    """A header alone, for a query whose question we cannot or need not read."""
    ident, flags, *_ = _HEADER.unpack_from(wire)
    return _HEADER.pack(ident, _QR | flags & (_OPCODE | _RD) | code, 0, 0, 0, 0)
