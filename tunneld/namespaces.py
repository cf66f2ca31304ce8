"""Ways into network namespaces: those of our labs, and any that `ip netns` knows."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from ctl.messages import ControlError
from netns import Lab, LabState, NetnsError, enter_argv, list_labs
from netns.places import ETC, NAMED


def control_error(exc: NetnsError) -> ControlError:
    """An error of the lab, for the control protocol."""
    return ControlError(exc.code, exc.message, exc.hint)


def way_into(labs: Path, namespace: str, *, sysfs: bool = False) -> list[str]:
    """What to put before a command line to run it in ``namespace``.

    Args:
      labs: directory with the directories of our labs.
      namespace: its name on the machine; or the one in its topology, if only one lab has it.
      sysfs: show the namespace's devices in /sys, as `ip netns exec` does.
    Raises:
      ControlError: ``not_found``, or ``bad_request`` if more than one is meant.
    """
    try:
        known = [lab for lab in list_labs(labs) if lab.state is not LabState.BUILDING]
        lab = _lab_of(known, namespace)
        if lab is not None:
            return enter_argv(lab, namespace, sysfs=sysfs)
    except NetnsError as exc:
        raise control_error(exc) from exc
    if _is_named(namespace):
        return _named_argv(namespace, sysfs=sysfs)
    raise _not_found(known, namespace)


def _lab_of(labs: Sequence[Lab], namespace: str) -> Lab | None:
    for lab in labs:
        if any(space.full_name == namespace for space in lab.namespaces):
            return lab
    short = [lab for lab in labs if any(space.name == namespace for space in lab.namespaces)]
    if len(short) > 1:
        names = ", ".join(lab.namespace(namespace).full_name for lab in short)
        raise ControlError("bad_request", f"several namespaces {namespace!r}", f"name one: {names}")
    return short[0] if short else None


def _is_named(namespace: str) -> bool:
    return (
        "/" not in namespace
        and namespace not in ("", ".", "..")
        and os.path.ismount(NAMED / namespace)
    )


def _named_argv(namespace: str, *, sysfs: bool) -> list[str]:
    return [
        *(sys.executable, "-P", "-m", "netns.enter"),
        *("--net", str(NAMED / namespace), "--etc", str(ETC / namespace)),
        *(["--sysfs"] if sysfs else []),
        "--",
    ]


def _not_found(labs: Sequence[Lab], namespace: str) -> ControlError:
    names = [space.full_name for lab in labs for space in lab.namespaces]
    hint = f"there are: {', '.join(names)}" if names else "make a lab: tunnelctl ns up"
    return ControlError("not_found", f"no namespace {namespace[:80]!r}", hint)
