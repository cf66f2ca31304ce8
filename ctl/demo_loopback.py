"""The story where the kernel forbids namespaces: the same roles on loopback, in one process."""

import socket
from contextlib import ExitStack
from functools import partial

from ctl.demo_lab import NAME
from ctl.demo_proofs import (
    answers_http,
    greets,
    lists_agent,
    page,
    pipes_bytes,
    start_daemon,
    stop_daemon,
    stops_and_starts,
    wait_ready,
)
from ctl.demo_story import Story
from ctl.demo_world import ProofError, World

_HOST = "127.0.0.1"
_WHY = "there is no network of its own here"

_CONFIG = """\
[[role]]
kind = "server"
name = "server"
policy = {{ open = true }}

[[role.frontends]]
listen = "{host}:{frontend}"
cert = "{pki}/frontend/server.crt"
key = "{pki}/frontend/server.key"
client-ca = "{pki}/frontend/ca.crt"

[role.tunnel]
listen = "{host}:{tunnel}"
cert = "{pki}/agent/server.crt"
key = "{pki}/agent/server.key"
client-ca = "{pki}/agent/ca.crt"

[[role]]
kind = "agent"
name = "agent"
policy = {{ open = true }}
server = "{host}:{tunnel}"
agent-id = "demo"
cert = "{pki}/agent/agent.crt"
key = "{pki}/agent/agent.key"
ca = "{pki}/agent/ca.crt"

[[role]]
kind = "greeter"
name = "grpc"
listen = "{host}:{greeter}"

[[role]]
kind = "http"
name = "http"
listen = "{host}:{http}"

[[role]]
kind = "echo"
name = "echo"
listen = "{host}:{echo}"

[[role]]
kind = "dns"
name = "dns"
listen = "{host}:{dns}"
records = {{ "{name}" = "{host}" }}
"""
_PORTS = ("frontend", "tunnel", "greeter", "http", "echo", "dns")


def tell_loopback_story(story: Story, world: World, reason: str) -> None:
    """Tell what can be told without namespaces.

    Args:
      reason: why there are none, for the first line.
    Raises:
      ControlError: a step failed.
    """
    story.open(f"on loopback, since there can be no namespaces here ({reason})")
    story.tell("make certificates", lambda: _make_certificates(world))
    story.tell("start a daemon of its own with all roles", lambda: _start(world))
    story.skip("check the network's shape", _WHY)
    story.skip("private reaches the public server, public does not reach into private", _WHY)
    story.tell("the agent has dialled out", lambda: lists_agent(world))
    story.tell("call the gRPC endpoint through the tunnel", lambda: greets(world))
    story.tell("get a page of the HTTP endpoint", lambda: answers_http(world, page(world)))
    story.skip(f"{NAME} resolves in private only", _WHY)
    story.tell("the DNS endpoint knows the name", lambda: _ask_dns(world))
    story.tell("use the tunnel as a byte pipe", lambda: pipes_bytes(world))
    by_address = ("http", page(world))
    for kind, probe in (
        ("server", by_address),
        ("agent", by_address),
        ("greeter", ("grpc", world.address("greeter"))),
        ("http", by_address),
        ("echo", ("dial", world.address("echo"))),
    ):
        story.tell(f"stop and start by hand: {kind}", partial(stops_and_starts, world, kind, probe))
    story.skip("take the lab down: nothing is left", "there is none")
    story.tell("stop the daemon: nothing is left", lambda: stop_daemon(world))


def _make_certificates(world: World) -> str:
    folder = str(world.folder / "pki")
    world.tunneld("certs", "init", "--dir", folder).require_success()
    return "two CAs, and certificates for server, agent and client"


def _start(world: World) -> str:
    config = world.folder / "tunneld.toml"
    ports = dict(zip(_PORTS, _free_ports(len(_PORTS)), strict=True))
    config.write_text(_CONFIG.format(host=_HOST, name=NAME, pki=world.folder / "pki", **ports))
    detail = start_daemon(world, "--config", str(config))
    wait_ready(world)
    return detail


def _free_ports(count: int) -> list[int]:
    """Ports that nothing listens on, by TCP and, for DNS, by UDP as a rule."""
    with ExitStack() as stack:
        held = [stack.enter_context(socket.create_server((_HOST, 0))) for _ in range(count)]
        return [listener.getsockname()[1] for listener in held]


def _ask_dns(world: World) -> str:
    import dns.exception
    import dns.message
    import dns.query

    port = int(world.address("dns").rpartition(":")[2])
    query = dns.message.make_query(NAME, "A")
    try:
        answer = dns.query.udp(query, _HOST, port=port, timeout=5)
    except (OSError, dns.exception.DNSException) as exc:
        raise ProofError(f"expected an address for {NAME}, got {exc!r}") from exc
    found = [str(item) for row in answer.answer for item in row]
    if found != [_HOST]:
        raise ProofError(f"expected {NAME} to be {_HOST}, got {found}")
    return f"{NAME} is {_HOST}"
