"""The tunnel's byte formats: sans-IO, no clock, no logging.

HTTP/2 (RFC 9113), hand-written for both roles: see `connection.Connection` for the way in.
What konnectivity has within it: `packet` and `grpc`, each a module to import names from.
"""

from frames.buffered import BufferedConnection
from frames.connection import Connection
from frames.errors import ErrorCode, LocalProtocolError, ProtocolError, RemoteProtocolError
from frames.events import (
    DataReceived,
    Event,
    GoAwayReceived,
    Headers,
    InformationalReceived,
    PingAcknowledged,
    RequestReceived,
    ResponseReceived,
    SettingsAcknowledged,
    SettingsReceived,
    StreamReset,
    TrailersReceived,
    WindowOpened,
)
from frames.headers import once
from frames.limits import Limits, Rate, Work
from frames.sending import ConnectionState
from frames.settings import Setting
from frames.stream import Stream, StreamState
from frames.streamids import Role
from frames.window import WindowBudget

__all__ = [
    "BufferedConnection",
    "Connection",
    "ConnectionState",
    "DataReceived",
    "ErrorCode",
    "Event",
    "GoAwayReceived",
    "Headers",
    "InformationalReceived",
    "Limits",
    "LocalProtocolError",
    "PingAcknowledged",
    "ProtocolError",
    "Rate",
    "RemoteProtocolError",
    "RequestReceived",
    "ResponseReceived",
    "Role",
    "Setting",
    "SettingsAcknowledged",
    "SettingsReceived",
    "Stream",
    "StreamReset",
    "StreamState",
    "TrailersReceived",
    "WindowBudget",
    "WindowOpened",
    "Work",
    "once",
]
