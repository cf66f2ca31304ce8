"""Flow-control arithmetic (RFC 9113 section 5.2, 6.9) and the bound on what windows promise."""

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
        self.left = size

    def take(self, amount: int) -> bool:
        """Take ``amount`` octets, all or none."""
        if amount > self.left:
            return False
        self.left -= amount
        return True

    def give_back(self, amount: int) -> None:
        """Return what was taken."""
        self.left += amount
