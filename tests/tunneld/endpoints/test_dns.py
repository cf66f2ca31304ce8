"""The DNS role on real sockets: UDP and TCP, real clients, time limits."""

import socket
from collections.abc import Callable
from typing import Any

import dns.asyncquery
import dns.message
import dns.rcode
import pytest
import structlog.testing
import trio
from trio.testing import MockClock, memory_stream_pair, wait_all_tasks_blocked

from tests.tunneld.endpoints.conftest import Running
from tunneld.config import DnsConfig
from tunneld.endpoints.dns import IDLE_TIMEOUT, DnsRole, serve_tcp, serve_udp
from tunneld.endpoints.zone import Zone
from tunneld.role import Host, RoleError

RECORDS: dict[str, str | tuple[str, ...]] = {"local-server.svc": ("192.168.1.2", "2001:db8::2")}
ZONE = Zone(RECORDS)


def role(host: Host, listen: str = "127.0.0.1:0") -> DnsRole:
    return DnsRole(DnsConfig(name="dns", listen=listen, records=RECORDS), host)


def query(kind: str = "A", name: str = "local-server.svc") -> dns.message.Message:
    return dns.message.make_query(name, kind)


def prefixed(wire: bytes) -> bytes:
    return len(wire).to_bytes(2, "big") + wire


@pytest.mark.parametrize("ask", [dns.asyncquery.udp, dns.asyncquery.tcp])
async def test_real_client_is_answered(
    host: Host, running: Running, ask: Callable[..., Any]
) -> None:
    async with running(role(host)) as (address, port):
        known = await ask(query(), address, port=port, timeout=10)
        unknown = await ask(query(name="other.svc"), address, port=port, timeout=10)
    assert [str(each) for each in known.answer] == ["local-server.svc. 5 IN A 192.168.1.2"]
    assert unknown.rcode() == dns.rcode.NXDOMAIN


async def test_ipv6_listener_answers_too(host: Host, running: Running) -> None:
    async with running(role(host, "[::1]:0")) as (address, port):
        answer = await dns.asyncquery.udp(query("AAAA"), address, port=port, timeout=10)
    assert "2001:db8::2" in str(answer.answer[0])


async def test_garbage_and_clients_that_are_gone_do_not_stop_the_answers(
    host: Host, running: Running
) -> None:
    async with running(role(host)) as (address, port):
        gone = trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        for datagram in (b"", b"\x00", b"\xff" * 5000, query().to_wire()):
            await gone.sendto(datagram, (address, port))
        gone.close()
        for _ in range(3):
            assert (await dns.asyncquery.udp(query(), address, port=port, timeout=10)).answer


async def test_fault_of_one_query_is_logged_and_the_next_is_answered() -> None:
    class Broken(Zone):
        def respond_udp(self, wire: bytes) -> bytes | None:
            if wire == b"break":
                raise RuntimeError("a bug")
            return super().respond_udp(wire)

    server, client = [trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2)]
    with server, client, structlog.testing.capture_logs() as logs:
        await server.bind(("127.0.0.1", 0))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve_udp, server, Broken(RECORDS))
            await client.connect(server.getsockname())
            await client.send(b"break")
            await client.send(query().to_wire())
            assert dns.message.from_wire(await client.recv(512)).answer
            nursery.cancel_scope.cancel()
    assert [each["event"] for each in logs] == ["query not answered"]


async def test_queries_of_one_connection_are_answered_in_order() -> None:
    ours, theirs = memory_stream_pair()
    kinds = ["A", "AAAA", "MX"]
    wire = b"".join(prefixed(query(kind).to_wire()) for kind in kinds)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve_tcp, ZONE, ours)
        for start in range(0, len(wire), 7):
            await theirs.send_all(wire[start : start + 7])
        await theirs.send_eof()
    received = bytes(await theirs.receive_some())
    answers = []
    while received:
        end = 2 + int.from_bytes(received[:2], "big")
        answers.append(dns.message.from_wire(received[2:end]))
        received = received[end:]
    assert [each.question[0].to_text().split()[-1] for each in answers] == kinds
    assert [len(each.answer) for each in answers] == [1, 1, 0]


@pytest.mark.parametrize("octets", [b"\x00\x00", prefixed(b"short"), b"\x00"])
async def test_connection_that_sends_garbage_is_ended(octets: bytes) -> None:
    ours, theirs = memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve_tcp, ZONE, ours)
        await theirs.send_all(octets)
        await theirs.send_eof()
    await ours.aclose()
    assert await theirs.receive_some() == b""


async def test_idle_connection_is_ended(autojump_clock: MockClock) -> None:
    ours, theirs = memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve_tcp, ZONE, ours)
        await trio.sleep(IDLE_TIMEOUT - 1)
        await theirs.send_all(prefixed(query().to_wire()))
        await wait_all_tasks_blocked()
        assert await theirs.receive_some() != b""
    assert trio.current_time() == pytest.approx(2 * IDLE_TIMEOUT - 1)


async def test_connection_that_does_not_fetch_its_answer_is_ended(
    autojump_clock: MockClock,
) -> None:
    ours, theirs = memory_stream_pair()
    ours.send_stream.send_all_hook = trio.sleep_forever
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve_tcp, ZONE, ours)
        await theirs.send_all(prefixed(query().to_wire()))
    assert trio.current_time() == pytest.approx(IDLE_TIMEOUT)


async def test_port_that_is_taken_for_udp_is_a_role_error(host: Host) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free_for_tcp:
        name = free_for_tcp.getsockname()
    taken = trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with taken:
        await taken.bind(name)
        address = f"127.0.0.1:{name[1]}"
        with pytest.raises(RoleError, match=r"\(UDP\): .* in use; stop what listens there"):
            await role(host, address).run()


def test_record_that_cannot_be_is_a_role_error(host: Host) -> None:
    config = DnsConfig(name="dns", records={"a.svc": "nowhere"})
    with pytest.raises(RoleError, match=r"dns records: a\.svc\. has 'nowhere'"):
        DnsRole(config, host)


async def test_role_ends_when_drained_and_frees_both_ports(host: Host, running: Running) -> None:
    async with trio.open_nursery() as nursery:
        [address] = await nursery.start(role(host).run)
        host.drain.set()
    successor = Host(host.name, host.reactor, host.state_dir, host.set_state)
    async with running(role(successor, address)) as (_, port):
        assert address.endswith(f":{port}")
