"""Shaped links: the parameters, and what comes of them."""

import time

import pytest

from netns.quantity import MAX_RATE, MIN_RATE
from netns.shaping import netem_parameters, tbf_parameters
from netns.topology import Shape
from tests.netns.programs import Site
from tests.netns.samples import shaped

SIZE = 400_000
RATE = 4_000_000

RECEIVE = f"""
import socket
server = socket.create_server(("10.0.0.2", 5000))
print(flush=True)
connection, _ = server.accept()
left = {SIZE}
while left:
    left -= len(connection.recv(65536))
connection.sendall(b"!")
"""
SEND = f"""
import socket, time
connection = socket.create_connection(("10.0.0.2", 5000))
started = time.monotonic()
connection.sendall(bytes({SIZE}))
assert connection.recv(1) == b"!"
print(time.monotonic() - started)
"""


@pytest.mark.parametrize("rate", [MIN_RATE, 10**6, 10**8, MAX_RATE])
def test_bucket_holds_a_full_packet_and_the_queue_more_than_the_bucket(rate: int) -> None:
    parameters = tbf_parameters(rate)
    assert parameters["rate"] == rate // 8
    assert parameters["burst"] >= 1514
    assert parameters["limit"] >= 2 * parameters["burst"]
    assert max(parameters.values()) < 2**32


def test_netem_counts_in_microseconds_and_percent() -> None:
    parameters = netem_parameters(Shape(delay=0.02, loss=0.005))
    assert (parameters["delay"], parameters["loss"]) == (20_000, 0.5)


def test_link_carries_no_more_than_its_rate(site: Site) -> None:
    assert "result" in site.up(shaped(rate="4mbit")).last()
    with site.spawn("b", RECEIVE) as receiver:
        receiver.wait_for_line()
        took = float(site.shell("a", SEND))
    assert took > 0.8 * SIZE * 8 / RATE


def test_delay_is_there_or_the_kernels_lack_of_it_is_told(site: Site) -> None:
    builder = site.up(shaped(delay="50ms"))
    last = builder.last()
    if "error" in last:
        assert last["error"]["code"] == "failed"
        assert "the kernel has no netem (CONFIG_NET_SCH_NETEM" in last["error"]["hint"]
        builder.close()
        assert site.remains() == []
        return
    listen = (
        "import socket; s = socket.create_server(('10.0.0.2', 5000)); print(flush=True); input()"
    )
    connect = "import socket; socket.create_connection(('10.0.0.2', 5000))"
    with site.spawn("b", listen) as server:
        server.wait_for_line()
        started = time.monotonic()
        site.shell("a", connect)
        assert time.monotonic() - started > 0.1
