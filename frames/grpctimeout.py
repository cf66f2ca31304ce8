"""Timeouts of calls, as ``grpc-timeout`` has them: up to eight digits and a unit."""

from frames.grpcstatus import GrpcError, Status, quoted

_NANOSECONDS = {
    b"n": 1,
    b"u": 10**3,
    b"m": 10**6,
    b"S": 10**9,
    b"M": 60 * 10**9,
    b"H": 3600 * 10**9,
}
_MAX_DIGITS = 8
_MAX_VALUE = 10**_MAX_DIGITS - 1
_LONGEST = (_MAX_VALUE - 1) * 3600.0
"""In seconds; an hour less than could be said, for a float's want of precision."""


def parse_timeout(value: bytes) -> float:
    """Seconds that the call may take, from its arrival.

    Raises:
      GrpcError: INTERNAL and HTTP status 400, as Go refuses it.
    """
    digits, unit = value[:-1], value[-1:]
    if not digits:
        raise _malformed("transport: timeout string is too short", value)
    if len(digits) > _MAX_DIGITS:
        raise _malformed("transport: timeout string is too long", value)
    if unit not in _NANOSECONDS:
        raise _malformed("transport: timeout unit is not recognized", value)
    if not digits.isdigit():
        raise _malformed("transport: timeout is not a number", value)
    return int(digits) * _NANOSECONDS[unit] / 10**9


def format_timeout(timeout: float) -> bytes:
    """Seconds in the finest unit that takes no more than eight digits, rounded up in it. What is
    too long even in hours becomes the longest there is."""
    if timeout <= 0:
        return b"0n"
    nanoseconds = max(1, round(min(timeout, _LONGEST) * 10**9))
    values = ((-(-nanoseconds // size), unit) for unit, size in _NANOSECONDS.items())
    return next(b"%d%b" % (value, unit) for value, unit in values if value <= _MAX_VALUE)


def _malformed(text: str, value: bytes) -> GrpcError:
    return GrpcError(Status.INTERNAL, f"malformed grpc-timeout: {text}: {quoted(value)}", 400)
