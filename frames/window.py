"""Flow-control arithmetic (RFC 9113 section 5.2, 6.9) and the bound on what windows promise."""

import math
from collections.abc import Callable

from frames.errors import ErrorCode, RemoteProtocolError, StreamProtocolError
from frames.frame import MAX_WINDOW


def raised(window: int, increment: int, stream_id: int) -> int:
    """A send window after a WINDOW_UPDATE or a changed initial size.

    Args:
      window: octets we may send; negative after the peer lowered the initial size.
      stream_id: 0 for the connection's window.
    Raises:
      RemoteProtocolError, StreamProtocolError: FLOW_CONTROL_ERROR above 2^31-1; which of the
        two depends on whose window it is.
    """
    window += increment
    if window <= MAX_WINDOW:
        return window
    text = f"window of {window} octets, allowed: {MAX_WINDOW}"
    if stream_id:
        raise StreamProtocolError(stream_id, ErrorCode.FLOW_CONTROL_ERROR, text)
    raise RemoteProtocolError(ErrorCode.FLOW_CONTROL_ERROR, text)


class WindowBudget:
    """Bounds the sum of what all streams of a process have grown their receive windows by.

    Shared by the connections of a process; a stream takes from it to grow, and gives all back
    when it ends. Nothing left means that windows stay as they are.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.left = size
        self.is_frozen = False
        """Whether nothing is to be had, whatever is left."""
        self.on_alarm: Callable[[], None] = lambda: None
        """Called once when as much has come as `set_alarm` said."""
        self._until_alarm = math.inf

    def resize(self, size: int) -> None:
        """Have another size; what has been taken stays so, even if there is then less than
        nothing left."""
        self.left += size - self.size
        self.size = size

    def set_alarm(self, octets: int) -> None:
        """Call `on_alarm` when so many octets have come on all connections, more or less: they are
        counted when a connection is credited."""
        self._until_alarm = octets

    def count(self, octets: int) -> None:
        """So many octets have come on one of the connections."""
        self._until_alarm -= octets
        if self._until_alarm <= 0:
            self._until_alarm = math.inf
            self.on_alarm()

    def take(self, amount: int) -> bool:
        """Take ``amount`` octets, all or none."""
        if amount > self.left or self.is_frozen:
            return False
        self.left -= amount
        return True

    def give_back(self, amount: int) -> None:
        """Return what was taken."""
        self.left += amount
