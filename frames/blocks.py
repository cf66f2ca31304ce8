"""Header blocks: header sections as HEADERS and CONTINUATION frames (RFC 9113 section 4.3).

Compression is `hpack`'s (RFC 7541); whether a section is well-formed is `headers`' matter.
"""

import hpack

from frames.errors import ErrorCode, RemoteProtocolError, too_much
from frames.events import Headers
from frames.frame import Flag, FrameType, serialize
from frames.limits import Limits
from frames.settings import DEFAULT_TABLE_SIZE

_MAX_TABLE_UPDATES = 16
"""Table size updates that a block may begin with. Two are all it takes; some encoders list each
change since their last block. They are no fields, so the limit of the header list is none to them.
"""


class BlockWriter:
    """Our header sections, on their way to the peer."""

    def __init__(self) -> None:
        self._encoder = hpack.Encoder()
        self._table_size = self._smallest = DEFAULT_TABLE_SIZE
        """What the peer allows our table now, and at the least since our last block."""

    def limit_table(self, size: int) -> None:
        """The peer announced HEADER_TABLE_SIZE; we never use more than the default."""
        self._table_size = min(size, DEFAULT_TABLE_SIZE)
        self._smallest = min(self._smallest, self._table_size)

    def serialize(
        self, stream_id: int, headers: Headers, end_stream: bool, max_frame: int
    ) -> bytes:
        """A HEADERS frame, and as many CONTINUATION frames as it takes."""
        self._announce_table_size()
        # Huffman's code saves a fifth of a block's octets, for a third of its time at both ends.
        block: bytes = self._encoder.encode(headers, huffman=False)
        first, rest = block[:max_frame], block[max_frame:]
        flags = (Flag.END_STREAM if end_stream else 0) | (0 if rest else Flag.END_HEADERS)
        octets = serialize(FrameType.HEADERS, flags, stream_id, first)
        while rest:
            first, rest = rest[:max_frame], rest[max_frame:]
            flags = 0 if rest else Flag.END_HEADERS
            octets += serialize(FrameType.CONTINUATION, flags, stream_id, first)
        return octets

    def _announce_table_size(self) -> None:
        """RFC 7541 section 4.2: a block begins with the smallest size of the table since the
        last one, then the size it has now. (hpack forgets a change that is set twice.)"""
        for size in (self._smallest, self._table_size):
            if size != self._encoder.header_table_size:
                self._encoder.header_table_size = size
        self._smallest = self._table_size


class BlockReader:
    """The peer's header blocks, one at a time: `begin`, `go_on` while incomplete, `end`.

    Attributes:
      stream_id: whose block is incomplete; None between blocks.
      end_stream: whether the block (the last one, between blocks) ends its stream.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._decoder = hpack.Decoder(limits.max_header_list)
        self._block = b""
        self._continuations = 0
        self.stream_id: int | None = None
        self.end_stream = False

    def allow_table(self, size: int) -> None:
        """We announced HEADER_TABLE_SIZE; the peer's table may not be larger."""
        self._decoder.max_allowed_table_size = size

    def begin(self, stream_id: int, fragment: bytes, *, end_stream: bool) -> None:
        """Take the fragment of a HEADERS frame.

        Raises:
          RemoteProtocolError: ENHANCE_YOUR_CALM above ``max_header_block``.
        """
        self.stream_id, self.end_stream = stream_id, end_stream
        self._block = b""
        self._continuations = 0
        self._add(fragment)

    def go_on(self, fragment: bytes) -> None:
        """Take the fragment of a CONTINUATION frame.

        Raises:
          RemoteProtocolError: ENHANCE_YOUR_CALM above ``max_header_block`` octets in all, or
            above ``max_continuations`` frames.
        """
        self._continuations += 1
        if self._continuations > self._limits.max_continuations:
            raise too_much(f"more than {self._limits.max_continuations} CONTINUATION frames")
        self._add(fragment)

    def end(self) -> Headers:
        """The block is complete: its header section. Must be decoded whatever becomes of it, for
        the table's sake.

        Raises:
          RemoteProtocolError: COMPRESSION_ERROR, or ENHANCE_YOUR_CALM above ``max_header_list``.
        """
        block, self._block = self._block, b""
        self.stream_id = None
        _check_table_updates(block)
        try:
            return list(self._decoder.decode(block, raw=True))
        except hpack.OversizedHeaderListError as exc:
            raise too_much(f"header list over {self._limits.max_header_list} octets") from exc
        except hpack.HPACKError as exc:
            raise RemoteProtocolError(ErrorCode.COMPRESSION_ERROR, f"HPACK: {exc}") from exc

    def _add(self, fragment: bytes) -> None:
        size, limit = len(self._block) + len(fragment), self._limits.max_header_block
        if size > limit:
            raise too_much(f"header block of {size} octets or more, allowed: {limit}")
        self._block += fragment


def _check_table_updates(block: bytes) -> None:
    """Refuse a block with nothing but updates of the table's size (RFC 7541 section 6.3)."""
    position = updates = 0
    while block[position : position + 1] and block[position] & 0xE0 == 0x20:
        updates += 1
        if updates > _MAX_TABLE_UPDATES:
            raise too_much(f"more than {_MAX_TABLE_UPDATES} table size updates")
        longer = block[position] & 0x1F == 0x1F
        position += 1
        while longer and block[position : position + 1]:
            longer = block[position] & 0x80 != 0
            position += 1
