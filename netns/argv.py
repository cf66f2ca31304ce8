"""The command lines of the lab's programs, for whoever spawns them."""

import json
import sys
from pathlib import Path

from netns.journal import Mode
from netns.lab import Lab
from netns.places import HELD
from netns.topology import Topology
from netns.topology_map import topology_to_map


def up_argv(directory: Path) -> list[str]:
    """The program that builds the lab of ``directory`` and, rootless, holds it.

    It wants `up_request` on stdin, which must stay open: its end means that nobody waits any
    more. During the build the program then takes back what it has built and fails; after it, root:
    it has exited anyway; rootless: the lab ends.
    """
    return [*_program("netns.build"), str(directory)]


def up_request(name: str, topology: Topology) -> bytes:
    """The line that the program of `up_argv` reads first."""
    return json.dumps({"name": name, "topology": topology_to_map(topology)}).encode() + b"\n"


def down_argv(directory: Path) -> list[str]:
    """The program that removes all that is left of the lab of ``directory``, whoever built it.

    Twice is harmless; afterwards only files that `netns` did not make are in the directory.
    """
    return [*_program("netns.teardown"), str(directory)]


def check_argv(directory: Path) -> list[str]:
    """The program that proves the shape of a lab that is up.

    Items are ``{"check", "ok", "detail"}``, where ``ok`` is null for what could not be tried
    (names, when no DNS server answers); the result is ``{"ok"}``, false if any item's is.
    """
    return [*_program("netns.check"), str(directory)]


def enter_argv(lab: Lab, namespace: str, *, sysfs: bool = False) -> list[str]:
    """What to put before a command line to run it in a namespace of a lab that is up.

    The command gets the caller's terminal, environment, working directory and descriptors, and
    the namespace's resolv.conf; its exit status is the status of the whole, 127 if it does not
    exist, 126 if it cannot be executed, 125 if the namespace cannot be entered.

    Args:
      namespace: as `Lab.namespace` takes it.
      sysfs: show the namespace's devices in /sys, as `ip netns exec` does.
    Raises:
      NetnsError: ``not_found``.
    """
    target = lab.namespace(namespace)
    holder = f"/proc/{lab.pid}/ns"
    outer = [
        *("--userns", f"{holder}/user", "--mntns", f"{holder}/mnt"),
        *("--drop", str(lab.directory / HELD)),
    ]
    return [
        *_program("netns.enter"),
        *(outer if lab.mode is Mode.ROOTLESS else []),
        *("--net", target.path, "--etc", target.etc),
        *(["--sysfs"] if sysfs else []),
        "--",
    ]


def _program(module: str) -> list[str]:
    # -P: a directory `netns` where the caller happens to stand must not be run instead of us.
    return [sys.executable, "-P", "-m", module]
