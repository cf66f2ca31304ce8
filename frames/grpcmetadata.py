"""Metadata of gRPC calls: the users' own header fields, among those of the protocol."""

import base64
import binascii
from typing import TypeAlias

from frames.events import Headers
from frames.grpcstatus import GrpcError, Status, quoted

Metadata: TypeAlias = dict[bytes, list[bytes]]
"""The values of each name, in order."""

_RESERVED = frozenset({b"content-type", b"host", b"te", b"user-agent"})
_BINARY = b"-bin"
"""Ends the names whose values are base64 on the wire: any octets."""


def parse_metadata(headers: Headers) -> Metadata:
    """The metadata in a header section.

    Raises:
      GrpcError: INTERNAL and HTTP status 400, as Go refuses what is no base64 and should be.
    """
    metadata: Metadata = {}
    for name, value in headers:
        if name[:1] == b":" or name in _RESERVED or name.startswith(b"grpc-"):
            continue
        plain = _parse_binary(name, value) if name.endswith(_BINARY) else value
        metadata.setdefault(name, []).append(plain)
    return metadata


def metadata_field(field: tuple[bytes, bytes]) -> tuple[bytes, bytes]:
    """A name and value of metadata, as a header section has them."""
    name, value = field
    if name.endswith(_BINARY):
        return name, base64.b64encode(value).rstrip(b"=")
    return field


def _parse_binary(name: bytes, value: bytes) -> bytes:
    """Base64, with all of its padding or none."""
    missing = -len(value) % 4
    try:
        if missing and b"=" in value:
            raise binascii.Error("incomplete padding")
        return base64.b64decode(value + b"=" * missing, validate=True)
    except binascii.Error as exc:
        text = f"malformed binary metadata {quoted(value)} in header {quoted(name)}: {exc}"
        raise GrpcError(Status.INTERNAL, text, 400) from exc
