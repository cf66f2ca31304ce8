"""The story in a lab of network namespaces: the walkthrough of the tutorial, step by step."""

import sys
from functools import partial

from ctl.demo_leftovers import lab_leftovers
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
from ctl.demo_world import Done, ProofError, World

NAME = "local-server.svc"
"""A host name that the lab's DNS server alone knows."""

_CONNECT = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 2)"
_RESOLVE = "import socket, sys; print(socket.gethostbyname(sys.argv[1]))"
_PUBLIC_HOST, _PRIVATE_HOST = "2.2.2.2", "192.168.1.2"
_HTTP_PORT = "8080"
_FRONTEND_PORT = "8090"


class NamespacesForbiddenError(Exception):
    """The kernel lets us have no namespaces; the text is the daemon's."""


def tell_lab_story(story: Story, world: World) -> None:
    """Tell all of it.

    Raises:
      NamespacesForbiddenError: there can be no lab; nothing has been shown so far.
      ControlError: a step failed.
    """
    story.tell("start a daemon of its own", lambda: start_daemon(world))
    story.tell("build a public and a private network, start the roles", lambda: _up(world))
    story.open(f"in a lab of network namespaces ({_mode(world)})")
    story.tell("check the network's shape", lambda: _check(world))
    story.tell(
        "private reaches the public server, public does not reach into private",
        lambda: _reach(world),
    )
    story.tell("the agent in private has dialled out", lambda: lists_agent(world))
    story.tell("call a private gRPC endpoint", lambda: greets(world))
    story.tell("get a page of a private HTTP endpoint", lambda: answers_http(world, page(world)))
    story.tell(f"{NAME} resolves in private only", lambda: _resolve(world))
    story.tell(
        "get the page by that name: the agent resolves it",
        lambda: answers_http(world, page(world, NAME)),
    )
    story.tell("use the tunnel as a byte pipe", lambda: pipes_bytes(world))
    for kind, probe in _probes(world):
        story.tell(f"stop and start by hand: {kind}", partial(stops_and_starts, world, kind, probe))
    story.tell("take the lab down: nothing is left", lambda: _down(world))
    story.tell("stop the daemon: nothing is left", lambda: stop_daemon(world))


def _up(world: World) -> str:
    done = world.tunnelctl("ns", "up", "--name", world.lab, "-o", "json")
    if done.error.get("code") == "forbidden":
        raise NamespacesForbiddenError(str(done.error.get("message")))
    done.require_success()
    end = done.items()[-1]
    wait_ready(world)
    return f"{len(end['namespaces'])} namespaces, {len(end['roles'])} roles ready"


def _mode(world: World) -> str:
    done = world.tunnelctl("ns", "list", "-o", "json", quiet=True)
    done.require_success()
    modes = {lab["name"]: lab["mode"] for lab in done.items()[0]["labs"]}
    return "as root" if modes.get(world.lab) == "root" else "without root"


def _check(world: World) -> str:
    done = world.tunnelctl("ns", "check", "--name", world.lab, "-o", "json")
    items = done.items()
    refuted = [f"{item['check']}: {item['detail']}" for item in items if item["ok"] is False]
    if refuted:
        raise ProofError("; ".join(refuted))
    done.require("checks that all hold", done.code == 0 and bool(items))
    return f"{len(items)} checks hold"


def _reach(world: World) -> str:
    _in(world, "private", _CONNECT, _PUBLIC_HOST, _FRONTEND_PORT).require_success()
    done = _in(world, "public", _CONNECT, _PRIVATE_HOST, _HTTP_PORT)
    done.require("no way in", done.code != 0)
    return f"private → {_PUBLIC_HOST} connects; public → {_PRIVATE_HOST}: {done.complaint}"


def _resolve(world: World) -> str:
    done = _in(world, "private", _RESOLVE, NAME)
    done.require(_PRIVATE_HOST, done.code == 0 and done.text == _PRIVATE_HOST)
    outside = _in(world, "public", _RESOLVE, NAME)
    outside.require("no such name", outside.code != 0)
    return f"private: {done.text}; public: {outside.complaint}"


def _in(world: World, namespace: str, script: str, *arguments: str) -> Done:
    """Run a line of Python in a namespace of the lab."""
    python = (sys.executable, "-c", script, *arguments)
    return world.tunnelctl("ns", "exec", f"{world.lab}-{namespace}", *python)


def _probes(world: World) -> list[tuple[str, tuple[str, ...]]]:
    """Each kind of role, and a command that fails without it."""
    by_address, by_name = ("http", page(world)), ("http", page(world, NAME))
    return [
        ("server", by_address),
        ("agent", by_address),
        ("greeter", ("grpc", world.address("greeter"))),
        ("http", by_address),
        ("echo", ("dial", world.address("echo"))),
        ("dns", by_name),
    ]


def _down(world: World) -> str:
    world.tunnelctl("ns", "down", "--name", world.lab).require_success()
    left = lab_leftovers(world)
    if left or world.roles():
        raise ProofError(f"left over: {', '.join(left) or 'roles'}")
    return "no namespace, no mount, no file, no role is left"
