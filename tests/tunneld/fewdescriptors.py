"""A process that has few file descriptors left."""

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager


def lowest() -> int:
    """The number that a new descriptor would get."""
    number = os.open(os.devnull, os.O_RDONLY)
    os.close(number)
    return number


@contextmanager
def few_descriptors(left: int) -> Iterator[int]:
    """While the block runs, there are ``left`` at most; gives the limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = lowest() + left
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    try:
        yield limit
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
