"""The network lab: topologies of Linux network namespaces, built with netlink alone.

A *topology* is plain data (`Topology`, from TOML or maps). A *lab* is a topology that stands, or
stood, on this machine; everything we know of it is in its directory (journal) and the kernel.
Nothing here logs, knows the tunnel, or changes the caller's namespaces: what must be done inside
of one, a program of its own does.

How a daemon uses it (every program below speaks JSON lines on stdout, see `netns.program`)::

    topology = builtin_topology("demo")            # or load_topology(path), parse_topology(map)
    process = spawn(up_argv(directory), stdin=PIPE, stdout=PIPE)
    process.stdin.write(up_request("demo", topology))     # keep stdin open: EOF means "give up"
    # {"item": {"step", "state": "start"|"done"|"skip", "detail"}} any number of times, then
    # {"result": {"name", "mode", "namespaces": [...]}} or {"error": {"code", "message", "hint"}}.
    # Root: exits after the result. Rootless: stays, as the holder of the namespaces, until
    # stdin ends, SIGTERM, or `down_argv` runs.
    lab = read_lab(directory)                      # names, addresses, state, mode
    spawn([*enter_argv(lab, "private"), "id", "-u"])
    spawn(check_argv(directory))                   # items {"check", "ok", "detail"}, then result
    spawn(down_argv(directory))                    # items as above, then result

The names are loaded when first used: `python -m netns.enter` must not pay for them.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from netns.argv import check_argv, down_argv, enter_argv, up_argv, up_request
    from netns.errors import NetnsError, TopologyError
    from netns.graph import draw, draw_dot
    from netns.journal import Mode
    from netns.lab import Lab, LabNamespace, LabState, list_labs, read_lab
    from netns.teardown import tear_down
    from netns.topology import Topology
    from netns.topology_map import (
        builtin_topology,
        load_topology,
        parse_topology,
        topology_to_map,
    )

__all__ = [
    "Lab",
    "LabNamespace",
    "LabState",
    "Mode",
    "NetnsError",
    "Topology",
    "TopologyError",
    "builtin_topology",
    "check_argv",
    "down_argv",
    "draw",
    "draw_dot",
    "enter_argv",
    "list_labs",
    "load_topology",
    "parse_topology",
    "read_lab",
    "tear_down",
    "topology_to_map",
    "up_argv",
    "up_request",
]

_HOMES = {
    "Lab": "lab",
    "LabNamespace": "lab",
    "LabState": "lab",
    "Mode": "journal",
    "NetnsError": "errors",
    "Topology": "topology",
    "TopologyError": "errors",
    "builtin_topology": "topology_map",
    "check_argv": "argv",
    "down_argv": "argv",
    "draw": "graph",
    "draw_dot": "graph",
    "enter_argv": "argv",
    "list_labs": "lab",
    "load_topology": "topology_map",
    "parse_topology": "topology_map",
    "read_lab": "lab",
    "tear_down": "teardown",
    "topology_to_map": "topology_map",
    "up_argv": "argv",
    "up_request": "argv",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"netns.{_HOMES[name]}"), name)
