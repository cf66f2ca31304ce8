"""Listeners: what opens them, and what each failure tells the user."""

import errno
import os
import socket

import pytest
import trio

from ctl.address import Address
from tunneld.listening import listen_error, listen_tcp, listener_address, parse_listen
from tunneld.role import RoleError


async def test_listener_tells_the_port_that_the_kernel_chose() -> None:
    [listener] = await listen_tcp("127.0.0.1:0")
    async with listener:
        host, port = listener_address(listener).rsplit(":", 1)
        assert host == "127.0.0.1"
        await (await trio.open_tcp_stream(host, int(port))).aclose()


async def test_ipv6_listener_is_written_in_brackets() -> None:
    [listener] = await listen_tcp("[::1]:0")
    async with listener:
        assert listener_address(listener).startswith("[::1]:")


@pytest.mark.parametrize("listen", ["127.0.0.1", "127.0.0.1:70000", "::1:53", ":x", "a b:1"])
async def test_what_is_no_address_is_refused(listen: str) -> None:
    with pytest.raises(RoleError, match="cannot listen"):
        await listen_tcp(listen)


async def test_taken_port_says_how_to_find_who_has_it() -> None:
    [listener] = await listen_tcp("127.0.0.1:0")
    async with listener:
        with pytest.raises(RoleError, match="in use; stop what listens there") as caught:
            await listen_tcp(listener_address(listener))
    assert str(caught.value).startswith("cannot listen on 127.0.0.1:")


async def test_address_of_another_host_says_so() -> None:
    with pytest.raises(RoleError, match="no interface here has this address"):
        await listen_tcp("192.0.2.1:80")


async def test_name_that_does_not_resolve_says_so() -> None:
    with pytest.raises(RoleError, match="the name does not resolve here"):
        await listen_tcp("no-such-host.invalid:80")


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.EACCES, "need root or CAP_NET_BIND_SERVICE"),
        (errno.EMFILE, "ulimit -n"),
        (errno.EPROTO, "choose another address"),
    ],
)
def test_other_failures_have_advice_too(number: int, advice: str) -> None:
    error = listen_error("127.0.0.1:80", OSError(number, os.strerror(number)))
    assert f"cannot listen on 127.0.0.1:80: {os.strerror(number)}; " in str(error)
    assert advice in str(error)


def test_resolver_failure_without_text_is_told_from_the_others() -> None:
    assert "does not resolve" in str(listen_error("x:1", socket.gaierror(-2, "Name unknown")))


async def test_an_empty_host_stands_for_all_addresses() -> None:
    assert parse_listen(":8090") == Address("", 8090)
    listeners = await listen_tcp(":0")
    hosts = set()
    for listener in listeners:
        async with listener:
            hosts.add(listener_address(listener).rsplit(":", 1)[0])
    assert "0.0.0.0" in hosts
    assert hosts <= {"0.0.0.0", "[::]"}
