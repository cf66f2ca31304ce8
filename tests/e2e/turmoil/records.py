"""What the clients and the endpoint say to each other, so that every octet can be checked.

Each way is a run of records: 2 octets "T1", kind, way (0 towards the endpoint), connection
(32 bits), sequence number (64 bits), payload length (32 bits), all big-endian; then the payload.
Kinds:

  H  the first one of a client: what it wants, as JSON
  R  octets that follow from connection, way, sequence number and length alone
  E  the last one: octets before it (64 bits), and their SHA-256

So an end of file without an E is a truncated stream that looks complete, a gap in the sequence
numbers is a loss, and anything else that is not as computed is a wrong octet.
"""

import hashlib
import json
import struct
from dataclasses import dataclass
from typing import Any

_HEADER = struct.Struct(">2scBIQI")
_MAGIC = b"T1"
_END = struct.Struct(">Q32s")
_REACH = 1 << 20
MAX_PAYLOAD = 1 << 17
_BLOCK = hashlib.shake_256(b"turmoil").digest(_REACH + MAX_PAYLOAD)

TO_ENDPOINT, TO_CLIENT = 0, 1


class WrongOctetsError(Exception):
    """What came is not what was sent; the text says where."""


@dataclass(frozen=True, slots=True)
class Record:
    """One record as it came."""

    kind: bytes
    sequence: int
    payload: bytes


def payload(connection: int, way: int, sequence: int, size: int) -> bytes:
    """The octets of an R."""
    start = (connection * 2_654_435_761 + sequence * 40_503 + way * 7_919) % _REACH
    return _BLOCK[start : start + size]


class Sender:
    """Makes one way's records."""

    def __init__(self, connection: int, way: int) -> None:
        self._connection, self._way = connection, way
        self._digest = hashlib.sha256()
        self.sequence = 0
        """Of the next record."""
        self.octets = 0

    def hello(self, wanted: dict[str, Any]) -> bytes:
        return self._record(b"H", json.dumps(wanted).encode())

    def data(self, size: int) -> bytes:
        return self._record(b"R", payload(self._connection, self._way, self.sequence, size))

    def end(self) -> bytes:
        return self._record(b"E", _END.pack(self.octets, self._digest.digest()))

    def _record(self, kind: bytes, octets: bytes) -> bytes:
        head = _HEADER.pack(_MAGIC, kind, self._way, self._connection, self.sequence, len(octets))
        record = head + octets
        self.sequence += 1
        self.octets += len(record)
        self._digest.update(record)
        return record


class Receiver:
    """Checks one way's octets.

    Args:
      connection: None takes the one that the first record names.
    """

    def __init__(self, connection: int | None, way: int) -> None:
        self.connection = connection
        self._way = way
        self._digest = hashlib.sha256()
        self._buffer = bytearray()
        self._sequence = 0
        self.octets = 0
        """That came and were right; those of a record that is not all there yet not counted."""
        self.complete = False
        """Whether the E has come, and fits."""

    def feed(self, data: bytes) -> list[Record]:
        """The records that are complete now.

        Raises:
          WrongOctetsError: at the first one that is not as it was sent.
        """
        self._buffer += data
        if self.complete and self._buffer:
            raise self._wrong(f"{len(self._buffer)} octets behind the end")
        found = []
        while (record := self._next()) is not None:
            found.append(record)
        return found

    def check_rest(self) -> None:
        """Check what is there of a record that will not be completed.

        Raises:
          WrongOctetsError: it is no beginning of the next record.
        """
        if len(self._buffer) < _HEADER.size:
            return
        kind, size = self._parse_header()
        rest = bytes(self._buffer[_HEADER.size :])
        if kind == b"R" and not self._expected(size).startswith(rest):
            raise self._wrong("other octets in a record that was cut off")

    def _next(self) -> Record | None:
        if len(self._buffer) < _HEADER.size:
            return None
        kind, size = self._parse_header()
        length = _HEADER.size + size
        if len(self._buffer) < length:
            return None
        octets = bytes(self._buffer[:length])
        del self._buffer[:length]
        record = Record(kind, self._sequence, octets[_HEADER.size :])
        if kind == b"R" and record.payload != self._expected(size):
            raise self._wrong("other octets")
        if kind == b"E":
            self._check_end(record.payload)
        self._digest.update(octets)
        self._sequence += 1
        self.octets += length
        return record

    def _parse_header(self) -> tuple[bytes, int]:
        magic, kind, way, connection, sequence, size = _HEADER.unpack_from(self._buffer)
        if self.connection is None and kind == b"H":
            self.connection = connection
        if (magic, way, connection) != (_MAGIC, self._way, self.connection):
            raise self._wrong(f"header {bytes(self._buffer[: _HEADER.size])!r}")
        if sequence != self._sequence:
            raise self._wrong(f"record {sequence} where {self._sequence} was due")
        if kind not in (b"H", b"R", b"E") or size > MAX_PAYLOAD:
            raise self._wrong(f"kind {kind!r}, {size} octets")
        return kind, size

    def _expected(self, size: int) -> bytes:
        assert self.connection is not None
        return payload(self.connection, self._way, self._sequence, size)

    def _check_end(self, octets: bytes) -> None:
        if octets != _END.pack(self.octets, self._digest.digest()):
            raise self._wrong("another SHA-256 or length than the end says")
        self.complete = True
        if self._buffer:
            raise self._wrong(f"{len(self._buffer)} octets behind the end")

    def _wrong(self, what: str) -> WrongOctetsError:
        return WrongOctetsError(
            f"connection {self.connection}, way {self._way}, octet {self.octets}: {what}"
        )
