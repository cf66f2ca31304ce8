"""Whether somebody still wants us: stdin is open and no SIGTERM came."""

import os
import select
import signal

_STDIN = 0


class Lifeline:
    """Watches for the end of stdin, anything said on it, and SIGTERM.

    From its construction on SIGTERM does not kill, and SIGINT does nothing: Ctrl-C in the daemon's
    terminal reaches us too, and the daemon decides what it means.
    """

    def __init__(self) -> None:
        reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._fds = (_STDIN, reader)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, lambda *_: None)
        signal.set_wakeup_fd(writer)

    def is_cut(self) -> bool:
        """Whether it is over."""
        return bool(select.select(self._fds, [], [], 0)[0])

    def wait(self) -> None:
        """Return when it is over."""
        select.select(self._fds, [], [])
