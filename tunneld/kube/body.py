"""Bodies of an API's answers, bounded: whole ones, and those of watches, a JSON object a line."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import msgspec
import trio
from msgspec import Struct

from tunneld.kube.errors import KubeError
from tunneld.kube.failures import translated

MAX_BODY = 16 << 20
"""Octets of a whole body: a list of some ten thousand leases."""

MAX_LINE = 4 << 20
"""Octets of one event of a watch; etcd stores no object of more than 1.5 MiB."""


def parse_object(data: bytes | bytearray) -> dict[str, Any]:
    """A JSON object.

    Raises:
      KubeError: it is something else.
    """
    try:
        value = msgspec.json.decode(data)
    except (msgspec.DecodeError, ValueError, RecursionError) as exc:
        raise KubeError(0, "", f"the API's answer is not JSON: {exc}") from exc
    if not isinstance(value, dict):
        raise KubeError(0, "", "the API's answer is not a JSON object")
    return value


class Body:
    """The octets of an answer as they arrive. Call `aclose` in the end, whatever happened."""

    def __init__(self, response: httpx.Response) -> None:
        self._response = response
        self._chunks: AsyncIterator[bytes] = response.aiter_raw()

    async def receive(self) -> bytes:
        """The next octets; none at the end.

        Raises:
          KubeError: the connection broke.
        """
        with translated(self._response.request):
            async for chunk in self._chunks:
                if chunk:
                    return chunk
        return b""

    async def receive_all(self, limit: int = MAX_BODY) -> bytes:
        """All of them.

        Raises:
          KubeError: there are more than ``limit``; the rest is not read.
        """
        data = bytearray()
        while chunk := await self.receive():
            if len(data) + len(chunk) > limit:
                raise KubeError(0, "", f"the API's answer has more than {limit} octets")
            data += chunk
        return bytes(data)

    async def aclose(self) -> None:
        """Close the response, and with it the connection if there is more to come."""
        # httpx reads through several asynchronous generators. Left suspended, they would be
        # complained about by trio once collected; a cancelled read ends them all, inner ones first.
        with trio.CancelScope() as scope:
            scope.cancel()
            async for _ in self._chunks:
                pass
        await self._response.aclose()


class Event(Struct, frozen=True):
    """What a watch tells: ``type`` is ADDED, MODIFIED, DELETED, BOOKMARK or ERROR."""

    type: str
    object: dict[str, Any]


class Watch:
    """The events of one watch, in order."""

    def __init__(self, body: Body, limit: int = MAX_LINE) -> None:
        self._body = body
        self._limit = limit
        self._buffer = bytearray()

    async def receive(self) -> Event | None:
        """The next event; None once the API has ended the watch.

        Raises:
          KubeError: it sent an error (410 if it no longer knows the version asked for), or
            something that is no event.
        """
        while line := await self._line():
            if not line.isspace():
                return _event(line)
        return None

    async def _line(self) -> bytes:
        searched = 0
        while (end := self._buffer.find(b"\n", searched)) < 0:
            searched = len(self._buffer)
            if searched > self._limit:
                raise KubeError(0, "", f"an event of the watch has more than {self._limit} octets")
            chunk = await self._body.receive()
            if not chunk:  # what is left over was cut off amid an event
                return b""
            self._buffer += chunk
        line = bytes(self._buffer[: end + 1])
        del self._buffer[: end + 1]
        return line


def _event(line: bytes) -> Event:
    try:
        event = msgspec.convert(parse_object(line), Event)
    except msgspec.ValidationError as exc:
        raise KubeError(0, "", f"the API sent no event of a watch: {exc}") from exc
    if event.type == "ERROR":
        raise status_error(event.object, 0, "the watch failed")
    return event


def status_error(status: dict[str, Any], code: int, otherwise: str) -> KubeError:
    """The error that a ``Status`` object tells.

    Args:
      code: HTTP status code, where the object has none.
      otherwise: the text, where the object has none.
    """
    told = status.get("code")
    reason, message = (str(status.get(key) or "") for key in ("reason", "message"))
    return KubeError(told if isinstance(told, int) else code, reason, message or otherwise)
