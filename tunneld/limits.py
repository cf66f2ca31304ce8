"""What a long-running process arranges with the system: descriptors and memory."""

import ctypes
import resource

_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
"""Of mallopt(3)."""
_LARGE = 1 << 20
"""Octets from which on a buffer is mapped by itself, and so goes back to the system when it is
freed. The buffers that bulk transfers use and free in every turn are smaller."""
_SPARE = 8 << 20
"""Octets that may stay free at the end of the heap."""


def raise_limit() -> int:
    """Take all descriptors that this process may have, as Go's programs do by themselves: each
    connection costs one at both ends of a tunnel, and shells and systemd give 1024 unless asked.
    Children inherit it.

    Returns:
      Descriptors that may be open.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def give_memory_back() -> bool:
    """Have large buffers go back to the system as soon as they are freed.

    Left alone, glibc raises its threshold for that with each that it sees, to 32 MiB. The queue of
    a client that did not read for a while, once grown into the heap, then stays there.

    Returns:
      Whether the C library is one that can be told.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):  # musl's has its own ways
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, _LARGE) and mallopt(_M_TRIM_THRESHOLD, _SPARE))
