"""Connecting to a server: the error says why."""

import errno
import socket

import pytest
import trio

from tunneld.transport.stream import connect_tcp


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_the_error_is_that_of_the_address_and_not_that_all_failed(host: str) -> None:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listener.socket.getsockname()[1]
    await listener.aclose()
    with pytest.raises(OSError) as caught:
        await connect_tcp(host, port)
    assert caught.value.errno == errno.ECONNREFUSED
    assert caught.value.strerror == "Connection refused"


async def test_a_name_that_does_not_resolve_stays_what_it_is() -> None:
    with pytest.raises(socket.gaierror):
        await connect_tcp("nowhere.invalid", 1)
