"""What the demo proves in a lab and on loopback alike: that endpoints answer through the tunnel."""

import hashlib
import os
from collections.abc import Sequence
from functools import partial

from ctl.address import Address, parse_address
from ctl.demo_leftovers import daemon_leftovers
from ctl.demo_world import ProofError, World, wait_until
from ctl.output import format_size

_PIPE_SIZE = 4 << 20
"""Octets through the byte pipe: more than the buffers on the way, so that most of the answer is
still to come when our end has been passed on."""
_READY = 20.0
"""Seconds for all roles to be ready."""
_RECOVERY = 45.0
"""Seconds for an agent to come back, whose pauses between attempts grow to 30 s at most."""
_END_TIMEOUT = 10.0
"""Seconds for processes to be gone after they have been told."""


def start_daemon(world: World, *arguments: str) -> str:
    """Start the world's own daemon."""
    world.tunneld("start", *arguments).require_success()
    done = world.tunnelctl("status", "-o", "json")
    done.require_success()
    return f"pid {done.items()[0]['pid']}"


def wait_ready(world: World) -> None:
    """Wait until all roles are ready, the agent connected."""
    wait_until(
        lambda: all(role["state"] == "ready" for role in world.roles()), "all roles ready", _READY
    )


def greets(world: World) -> str:
    """The gRPC endpoint answers."""
    done = world.tunnelctl("grpc", world.address("greeter"), "--name", "demo")
    done.require("Hello demo!", done.code == 0 and done.text == "Hello demo!")
    return done.text


def answers_http(world: World, url: str) -> str:
    """The HTTP endpoint answers."""
    done = world.tunnelctl("http", url)
    done.require("a page that says 'Everything is ok'", "Everything is ok" in done.text)
    return "the page says: Everything is ok"


def page(world: World, host: str = "") -> str:
    """URL of the HTTP endpoint's page, by its address or by the name of its ``host``."""
    address = parse_address(world.address("http"))
    return f"http://{Address(host or address.host, address.port)}/ok"


def pipes_bytes(world: World) -> str:
    """`dial` carries octets both ways, and the end of ours before that of the answer."""
    data = os.urandom(_PIPE_SIZE)
    done = world.tunnelctl("dial", world.address("echo"), data=data)
    same = hashlib.sha256(done.out).digest() == hashlib.sha256(data).digest()
    if done.code or not same:
        raise ProofError(
            f"{done.command}: expected {len(data)} octets back, got {len(done.out)}"
            f"{'' if same else ', others'}, exit code {done.code}, {done.complaint}"
        )
    return f"{format_size(len(data))} sent, then the end; the same came back after it, then its end"


def lists_agent(world: World) -> str:
    """The agent is listed by its id."""
    done = world.tunnelctl("agents", "-o", "json")
    done.require_success()
    found = [agent["id"] for agent in done.items()[0]["agents"]]
    done.require("one agent with id demo", found == ["demo"])
    return "agent demo is connected"


def stops_and_starts(world: World, kind: str, probe: Sequence[str]) -> str:
    """The role can be stopped and started by hand; meanwhile the ``probe``, a tunnelctl command
    that needs it, fails."""
    name = str(world.role(kind)["name"])
    world.tunnelctl("role", "stop", name).require_success()
    failed = world.tunnelctl(*probe)
    failed.require("a failure while the role is stopped", failed.code != 0)
    world.tunnelctl("role", "start", name).require_success()
    works = partial(world.tunnelctl, *probe, quiet=True)
    wait_until(lambda: works().code == 0, f"{failed.command} to work again", _RECOVERY)
    return f"stopped: {failed.complaint}; started: it works again"


def stop_daemon(world: World) -> str:
    """Stop the world's daemon; nothing of it stays."""
    world.tunneld("stop").require_success()
    wait_until(lambda: not daemon_leftovers(world), "no process or socket left", _END_TIMEOUT)
    return "no process and no socket is left"
