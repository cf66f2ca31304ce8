"""The call of AgentService/Connect around its packets: what the agent says of itself, what the
server does, and how the call ends."""

import re

from frames import Headers
from frames.grpc import GrpcError, Status, check_response, request_headers, status_of_response
from tunneld import __version__
from tunneld.agentinfo import AgentInfo
from tunneld.session import SessionError
from tunneld.streamend import StreamEnd

PATH = b"/AgentService/Connect"
_USER_AGENT = f"tunneld/{__version__}".encode()
_COUNT = re.compile(r"[+-]?[0-9]{1,18}")


def call_headers(info: AgentInfo, authority: str) -> Headers:
    """The request. Identifiers are in it even when there are none, as upstream has it."""
    metadata = [
        (b"agentid", info.agent_id.encode()),
        (b"agentidentifiers", info.identifiers.encode()),
    ]
    if info.authorization:
        metadata.append((b"authorization", info.authorization.encode()))
    return request_headers(PATH, authority.encode(), user_agent=_USER_AGENT, extra=metadata)


async def server_of(end: StreamEnd) -> tuple[str, int]:
    """The server's id, and how many servers there are, once it answers.

    Raises:
      SessionError: it does not say so, or there is no answer.
      GrpcError: the answer is not gRPC's, or refuses us.
    """
    await end.arrived.wait()
    if end.response is None:
        raise SessionError(end.lost or "no response")
    headers = end.response.raw
    status, message = status_of_response(headers, None)
    if status is Status.UNIMPLEMENTED:  # what other listeners say, by gRPC or as 404
        raise GrpcError(status, f"{message}: is that a tunnel listener?")
    check_response(headers)
    if any(name == b"grpc-status" for name, _ in headers):
        raise _refusal(status, message)
    server_id, count = _value(headers, b"serverid"), _value(headers, b"servercount")
    if not _COUNT.fullmatch(count):
        raise SessionError(f"the server's count of servers is no number: {count[:80]!r}")
    return server_id, max(1, int(count))


def error_of_end(end: StreamEnd) -> GrpcError | None:
    """Why the server ended the call, if not with status OK."""
    if end.response is None or end.trailers is None:
        return None
    status, message = status_of_response(end.response.raw, end.trailers)
    return None if status is Status.OK else _refusal(status, message)


def _refusal(status: Status, message: str) -> GrpcError:
    return GrpcError(status, f"the server says: {message or 'nothing'} ({status.text})")


def _value(headers: Headers, name: bytes) -> str:
    """The one value of a field."""
    values = [value for each, value in headers if each == name]
    if len(values) != 1:
        raise SessionError(f"expected one {name.decode()} of the server, got {len(values)}")
    return values[0].decode("utf-8", "replace")
