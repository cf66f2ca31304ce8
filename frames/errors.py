"""Error codes of the wire, and whose fault a protocol error is."""

from enum import IntEnum


class ErrorCode(IntEnum):
    """Codes of RST_STREAM and GOAWAY (RFC 9113 section 7)."""

    NO_ERROR = 0x0
    PROTOCOL_ERROR = 0x1
    INTERNAL_ERROR = 0x2
    FLOW_CONTROL_ERROR = 0x3
    SETTINGS_TIMEOUT = 0x4
    STREAM_CLOSED = 0x5
    FRAME_SIZE_ERROR = 0x6
    REFUSED_STREAM = 0x7
    CANCEL = 0x8
    COMPRESSION_ERROR = 0x9
    CONNECT_ERROR = 0xA
    ENHANCE_YOUR_CALM = 0xB
    INADEQUATE_SECURITY = 0xC
    HTTP_1_1_REQUIRED = 0xD

    @classmethod
    def describe(cls, code: int) -> str:
        """Its name, or the number of a code that is not in the RFC."""
        return cls(code).name if code in cls._value2member_map_ else f"code {code:#x}"


class ProtocolError(Exception):
    """Base of both."""


class LocalProtocolError(ProtocolError):
    """Our caller broke the protocol: a bug. Nothing was sent."""


class RemoteProtocolError(ProtocolError):
    """The peer broke the protocol or a limit; the connection is over.

    ``code`` is what the GOAWAY says that is already in the transmit buffer.
    """

    def __init__(self, code: ErrorCode, message: str) -> None:
        super().__init__(message)
        self.code = code


class StreamProtocolError(ProtocolError):
    """The peer broke the protocol on one stream; internal to `frames`, becomes RST_STREAM."""

    def __init__(self, stream_id: int, code: ErrorCode, message: str) -> None:
        super().__init__(message)
        self.stream_id = stream_id
        self.code = code


def protocol_error(text: str) -> RemoteProtocolError:
    """The commonest fault of a connection."""
    return RemoteProtocolError(ErrorCode.PROTOCOL_ERROR, text)


def too_much(text: str) -> RemoteProtocolError:
    """For a peer that makes us store or do more than a limit allows."""
    return RemoteProtocolError(ErrorCode.ENHANCE_YOUR_CALM, text)


def stream_error(stream_id: int, text: str) -> StreamProtocolError:
    """The commonest fault of a stream, a malformed message included (RFC 9113 section 8.1.1)."""
    return StreamProtocolError(stream_id, ErrorCode.PROTOCOL_ERROR, text)
