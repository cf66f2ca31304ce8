"""What may happen, and what may come of it."""

import os
import random
import resource
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.turmoil.site import ALPHA, BETA, DENIED, KEEPALIVE, SERVER, Site
from tunneld.pki import Side


@dataclass(frozen=True, slots=True)
class Fault:
    """A kind of event.

    Args:
      strike: makes it happen; returns when nothing stands in the way of recovery any more: what
        it did, and how many connections it broke, if that is known.
    """

    name: str
    strike: Callable[[Site, random.Random], tuple[str, int | None]]
    breaks: bool = False
    """Whether connections may break."""
    refuses: bool = False
    """Whether newcomers may fail."""


def _kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def _kill_server(site: Site, _: random.Random) -> tuple[str, None]:
    (pid,) = site.edge.workers()
    _kill(pid)
    return "the server's worker", None


def _kill_one_agent(site: Site, chance: random.Random) -> tuple[str, None]:
    workers = site.home.workers()
    _kill(chance.choice(workers))
    return f"one agent process of {len(workers)}", None


def _kill_all_agents(site: Site, _: random.Random) -> tuple[str, None]:
    workers = site.home.workers()
    for pid in workers:
        _kill(pid)
    return f"{len(workers)} agent processes", None


def _kill_endpoint(site: Site, _: random.Random) -> tuple[str, None]:
    site.endpoint.close()
    site.start_endpoint()
    return "the endpoint, which is there again", None


def _kill_server_supervisor(site: Site, _: random.Random) -> tuple[str, None]:
    _kill(site.edge.pid)
    site.edge.start()
    return "the server's daemon, started again", None


def _kill_agents_supervisor(site: Site, _: random.Random) -> tuple[str, None]:
    _kill(site.home.pid)
    site.home.start()
    return "the agents' daemon, started again", None


def _restart_server(site: Site, _: random.Random) -> tuple[str, None]:
    site.edge.daemon.ctl("role", "restart", SERVER)
    return "", None


def _restart_agent(site: Site, chance: random.Random) -> tuple[str, None]:
    name = chance.choice([ALPHA, BETA])
    site.home.daemon.ctl("role", "restart", name)
    return name, None


def _drain_server(site: Site, chance: random.Random) -> tuple[str, None]:
    timeout = round(chance.uniform(0.5, 3.0), 1)
    site.edge.daemon.ctl("drain", SERVER, "--timeout", str(timeout))
    site.edge.daemon.ctl("role", "start", SERVER)
    return f"{timeout} s", None


def _drain_agent(site: Site, chance: random.Random) -> tuple[str, None]:
    name, timeout = chance.choice([ALPHA, BETA]), round(chance.uniform(0.5, 3.0), 1)
    site.home.daemon.ctl("drain", name, "--timeout", str(timeout))
    site.home.daemon.ctl("role", "start", name)
    return f"{name}, {timeout} s", None


def _blink(site: Site, chance: random.Random) -> tuple[str, None]:
    seconds = round(chance.uniform(0.2, KEEPALIVE / 2), 2)
    return _unplug(site, seconds), None


def _cut(site: Site, chance: random.Random) -> tuple[str, None]:
    seconds = round(chance.uniform(2 * KEEPALIVE + 1, 2 * KEEPALIVE + 5), 1)
    return _unplug(site, seconds), None


def _unplug(site: Site, seconds: float) -> str:
    site.network.uplink_down()
    try:
        time.sleep(seconds)
    finally:
        site.network.uplink_up()
    return f"{seconds} s"


def _forget_nat(site: Site, _: random.Random) -> tuple[str, None]:
    site.network.forget_nat()
    return "it picks connections up again", None


def _lose_nat(site: Site, _: random.Random) -> tuple[str, None]:
    """Until the tunnels have been found dead: a NAT that has restarted stays as it is."""
    site.network.be_strict(True)
    try:
        site.network.forget_nat()
        time.sleep(2 * KEEPALIVE + 1)
    finally:
        site.network.be_strict(False)
    return "it takes nothing that it has not seen begin", None


def _limit_rate(site: Site, chance: random.Random) -> tuple[str, None]:
    rate, seconds = chance.choice([8, 16, 32]), round(chance.uniform(4, 8), 1)
    site.network.limit_rate(rate * 10**6)
    try:
        time.sleep(seconds)
    finally:
        site.network.unlimit_rate()
    return f"{rate} Mbit/s for {seconds} s", None


_STILL = 1.5
"""Seconds that a stall goes on behind the moment from which the others are looked at."""


def _stall_clients(site: Site, chance: random.Random) -> tuple[str, None]:
    seconds = round(chance.uniform(3, 7), 1)
    readers = site.clients.ask("stall", seconds=seconds)["readers"]
    time.sleep(seconds - _STILL)
    return f"{readers} clients for {seconds} s", None


def _stall_endpoint(site: Site, chance: random.Random) -> tuple[str, None]:
    seconds = round(chance.uniform(3, 7), 1)
    site.endpoint.ask("stall", seconds=seconds)
    time.sleep(seconds - _STILL)
    return f"for {seconds} s", None


def _starve_server(site: Site, chance: random.Random) -> tuple[str, None]:
    (pid,) = site.edge.workers()
    return _starve(site, [pid], chance.choice(_ROOMS)), None


def _starve_agents(site: Site, chance: random.Random) -> tuple[str, None]:
    return _starve(site, site.home.workers(), chance.choice(_ROOMS)), None


_ROOMS = (2, 10, 60)
"""Descriptors beyond the highest: a process keeps some back itself, an eighth of what it may have,
so that few come in or none."""
_CROWD = 60


def _starve(site: Site, pids: list[int], room: int) -> str:
    before = {pid: resource.prlimit(pid, resource.RLIMIT_NOFILE) for pid in pids}
    for pid, (_, hard) in before.items():
        highest = max(int(each.name) for each in Path(f"/proc/{pid}/fd").iterdir())
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (highest + 1 + room, hard))
    try:
        came = site.clients.ask("crowd", count=_CROWD, seconds=3.0)["came"]
    finally:
        for pid, limits in before.items():
            resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)
    return f"{room} more than in use, {came.get('', 0)} of {_CROWD} came in"


def _renew(site: Site, _: random.Random) -> tuple[str, None]:
    site.registrar.renew()
    site.clients.ask("renew")
    changes = site.edge.reload() + site.home.reload()
    return f"{len(changes)} files", None


def _replace_ca(site: Site, _: random.Random) -> tuple[str, None]:
    for side in Side:
        site.registrar.add_authority(side)
    _use_certificates(site)
    site.registrar.renew()
    _use_certificates(site)
    for side in Side:
        site.registrar.drop_authority(side)
    _use_certificates(site)
    return "both CAs", None


def _use_certificates(site: Site) -> None:
    site.clients.ask("renew")
    site.edge.reload()
    site.home.reload()


def _change_rules(site: Site, chance: random.Random) -> tuple[str, None]:
    destination = f"192.168.1.2:{DENIED}"
    _expect(site, destination, "403")
    site.write(denied=DENIED + 1, dial_timeout=float(chance.randrange(5, 15)))
    site.edge.reload()
    _expect(site, destination, "502")
    site.write(denied=DENIED)
    site.edge.reload()
    _expect(site, destination, "403")
    return "", None


def _expect(site: Site, destination: str, status: str) -> None:
    refused = site.clients.ask("knock", destination=destination)["refused"]
    if status not in refused:
        raise AssertionError(f"a dial of {destination}: {refused!r}, expected {status}")


_KILLED = 8


def _kill_conns(site: Site, chance: random.Random) -> tuple[str, int]:
    old: list[str] = []
    while len(old) < _KILLED:  # newcomers do not last that long
        old = [row["id"] for row in site.edge.conns() if time.time() - row["since"] > 3]
    ids = chance.sample(old, _KILLED)
    site.edge.daemon.ctl("kill", "conn", *ids, "--reason", "turmoil")
    return f"{len(ids)} connections", len(ids)


def _kill_client(site: Site, _: random.Random) -> tuple[str, None]:
    site.edge.daemon.ctl("kill", "client", "cert:client")
    return "all connections", None


def _kill_agent_tunnels(site: Site, chance: random.Random) -> tuple[str, None]:
    name = chance.choice([ALPHA, BETA])
    site.edge.daemon.ctl("kill", "agent", name)
    return name, None


FAULTS = (
    Fault("kill -9 of the server", _kill_server, breaks=True, refuses=True),
    Fault("kill -9 of an agent", _kill_one_agent, breaks=True, refuses=True),
    Fault("kill -9 of all agents", _kill_all_agents, breaks=True, refuses=True),
    Fault("kill -9 of the endpoint", _kill_endpoint, breaks=True, refuses=True),
    Fault("kill -9 of the server's daemon", _kill_server_supervisor, breaks=True, refuses=True),
    Fault("kill -9 of the agents' daemon", _kill_agents_supervisor, breaks=True, refuses=True),
    Fault("role restart, server", _restart_server, breaks=True, refuses=True),
    Fault("role restart, agent", _restart_agent, breaks=True, refuses=True),
    Fault("drain and start, server", _drain_server, breaks=True, refuses=True),
    Fault("drain and start, agent", _drain_agent, breaks=True, refuses=True),
    Fault("link down, within keepalive", _blink),
    Fault("link down, beyond keepalive", _cut, breaks=True, refuses=True),
    Fault("NAT state flush", _forget_nat),
    Fault("NAT state flush, strict NAT", _lose_nat, breaks=True, refuses=True),
    Fault("rate limit", _limit_rate, refuses=True),
    Fault("stalled clients", _stall_clients),
    Fault("stalled endpoint", _stall_endpoint),
    Fault("server out of descriptors", _starve_server, refuses=True),
    Fault("agents out of descriptors", _starve_agents, refuses=True),
    Fault("certificates renewed, reload", _renew),
    Fault("CAs replaced, reload", _replace_ca),
    Fault("rules changed, reload", _change_rules),
    Fault("tunnelctl kill conn", _kill_conns, breaks=True),
    Fault("tunnelctl kill client", _kill_client, breaks=True, refuses=True),
    Fault("tunnelctl kill agent", _kill_agent_tunnels, breaks=True, refuses=True),
)
