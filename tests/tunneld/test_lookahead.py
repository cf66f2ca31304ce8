"""How far ahead of its link a connection frames."""

import socket
from collections.abc import Iterator

import pytest

from frames.transmit import DATA_LIMIT, TransmitBuffer
from tunneld.lookahead import Lookahead

KIB = 1024


class Link:
    """Carries so many octets a second; the socket before it is full whenever we look."""

    def __init__(self, sock: socket.socket) -> None:
        self.now = 1000.0
        self.carried = 0
        self.sock = sock
        self.tx = TransmitBuffer()
        self.lookahead = Lookahead(self.tx, sock)
        self.lookahead.blocked(0, self.now)

    def carry(self, rate: float, seconds: float) -> int:
        """The limit that follows."""
        self.now += seconds
        self.carried += int(rate * seconds)
        self.lookahead.blocked(self.carried, self.now)
        return self.tx.limit

    @property
    def unsent(self) -> int:
        """Octets that the kernel takes before it calls the socket full."""
        return self.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT)


@pytest.fixture
def link() -> Iterator[Link]:
    with socket.socket() as sock:
        yield Link(sock)


@pytest.mark.parametrize(
    ("rate", "limit"),
    [
        (1.25e6, 32 * KIB),  # 10 Mbit/s: 25 ms, less would be mostly headers
        (12.5e6, 64 * KIB),  # 100 Mbit/s: 5 ms are 62,500 octets
        (125e6, 1024 * KIB),  # 1 Gbit/s: 625,000 octets
        (1.25e9, DATA_LIMIT),
    ],
)
def test_a_few_milliseconds_of_the_link_wait(link: Link, rate: float, limit: int) -> None:
    assert link.carry(rate, 0.1) == limit
    if limit < DATA_LIMIT:
        assert link.unsent == limit
    else:
        assert link.unsent > 1 << 30


def test_a_link_of_which_nothing_is_known_may_be_slow(link: Link) -> None:
    assert link.tx.limit == 32 * KIB


def test_it_follows_a_link_that_becomes_slow(link: Link) -> None:
    link.carry(1e9, 0.01)
    assert link.carry(1e6, 0.5) == 32 * KIB


def test_it_recovers_from_a_pause_that_looked_like_a_slow_link(link: Link) -> None:
    link.carry(1e9, 0.01)
    assert link.carry(1e3, 60) == 32 * KIB
    for _ in range(5):
        link.lookahead.flowed()
    assert link.tx.limit == DATA_LIMIT
    assert link.unsent > 1 << 30
    link.lookahead.flowed()
    assert link.tx.limit == DATA_LIMIT


def test_a_clock_that_stands_still_says_nothing(link: Link) -> None:
    link.carry(12.5e6, 0.1)
    assert link.carry(0, 0) == 64 * KIB


def test_a_unix_socket_is_bounded_by_the_buffer_alone() -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        assert Link(sock).carry(12.5e6, 0.1) == 64 * KIB
