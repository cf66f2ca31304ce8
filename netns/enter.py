"""Runs a command in a namespace: `python -m netns.enter --net PATH [OPTION…] -- COMMAND…`.

    --userns PATH  --mntns PATH   first enter these namespaces, of a rootless lab's holder
    --net PATH                    the network namespace; as seen in the entered mount namespace
    --etc DIRECTORY               bind each file in it over the file of that name in /etc
    --drop DIRECTORY              unmount it from the command's view of the file system
    --sysfs                       mount a /sys that shows the namespace's devices

The command replaces this program, so it gets the terminal, the descriptors, the working directory
and the environment, and its exit status is the caller's to see. Otherwise the status is, as with
env(1) and chroot(1), 127 if there is no such command, 126 if it cannot be executed, and 125 if the
namespace cannot be entered. Imports little (no argparse, no pathlib) and parses by hand, since it
stands before every command: either would cost more than all the rest.
"""

import errno
import os
import sys
from collections.abc import Callable
from typing import NoReturn

from netns import kernel

_PATHS = ("--userns", "--mntns", "--net", "--etc", "--drop")
_FLAGS = ("--sysfs",)
_USAGE = "usage: python -m netns.enter --net PATH [OPTION...] -- COMMAND [ARGUMENT...]"

CANNOT_ENTER, CANNOT_EXECUTE, NO_COMMAND = 125, 126, 127


class EnterError(Exception):
    """The namespace cannot be entered; the message says why."""


def parse_arguments(argv: list[str]) -> tuple[dict[str, str], list[str]]:
    """Options, flags with an empty value, and the command.

    Raises:
      EnterError: usage.
    """
    options: dict[str, str] = {}
    words = iter(argv)
    for word in words:
        if word == "--":
            break
        if word in _FLAGS:
            options[word] = ""
        elif word in _PATHS:
            options[word] = next(words, "")
        else:
            raise EnterError(f"unknown option {word!r}; {_USAGE}")
    command = list(words)
    if not options.get("--net") or not command:
        raise EnterError(_USAGE)
    return options, command


def enter(options: dict[str, str]) -> None:
    """Move the process, which has one thread, into the namespaces.

    Raises:
      EnterError: the lab is gone, or we may not.
    """
    here = os.getcwd()  # noqa: PTH109 - no pathlib, see above
    outer = [
        (_open(options[name]), flag)
        for name, flag in (("--userns", kernel.CLONE_NEWUSER), ("--mntns", kernel.CLONE_NEWNS))
        if name in options
    ]
    for fd, flag in outer:
        _attempt("enter the holder's namespaces", kernel.setns, fd, flag)
        os.close(fd)
    net = _open(options["--net"])
    _attempt(f"enter {options['--net']}", kernel.setns, net, kernel.CLONE_NEWNET)
    os.close(net)
    _attempt("make a mount namespace", kernel.unshare, kernel.CLONE_NEWNS)
    # Slave, as `ip netns exec` does: the host's unmounts reach us, our mounts stay with us.
    _attempt("keep mounts private", kernel.mount, "", "/", "none", kernel.MS_SLAVE | kernel.MS_REC)
    _arrange_files(options)
    if outer:
        _go_back(here)


def _arrange_files(options: dict[str, str]) -> None:
    if "--sysfs" in options:
        _mount_sysfs()
    if "--etc" in options:
        _bind_etc(options["--etc"])
    if "--drop" in options:
        # Else a command that outlives the lab's holder would keep the other namespaces alive.
        _attempt(f"drop {options['--drop']}", kernel.umount, options["--drop"], kernel.MNT_DETACH)


def _bind_etc(directory: str) -> None:
    try:
        names = sorted(os.listdir(directory))  # noqa: PTH208 - likewise
    except FileNotFoundError:
        return
    for name in names:
        try:
            kernel.mount(f"{directory}/{name}", f"/etc/{name}", "none", kernel.MS_BIND)
        except OSError as exc:
            # Where the host has no such file there is nothing to bind over. A command that needs
            # it will say so better than we could; one that does not should run.
            _warn(f"cannot put {directory}/{name} over /etc/{name}: {exc.strerror}")


def _mount_sysfs() -> None:
    flags = kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC
    try:
        kernel.mount("sysfs", "/sys", "sysfs", flags)
    except OSError as exc:
        # Not ours to mount in some containers; then /sys keeps showing the host's devices.
        if exc.errno not in (errno.EPERM, errno.EACCES, errno.EBUSY):
            raise


def _go_back(directory: str) -> None:
    """Entering a mount namespace moved us to its root."""
    try:
        os.chdir(directory)
    except OSError as exc:
        raise EnterError(f"cannot go back to {directory}: {exc.strerror}") from exc


def _open(path: str) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as exc:
        raise EnterError(f"cannot open {path}: {exc.strerror}; is the lab up?") from exc


def _attempt(what: str, call: Callable[..., None], *arguments: object) -> None:
    try:
        call(*arguments)
    except OSError as exc:
        hint = "; run it as the user that the daemon runs as" if exc.errno == errno.EPERM else ""
        raise EnterError(f"cannot {what}: {exc.strerror}{hint}") from exc


def execute(command: list[str]) -> NoReturn:
    """Become the command, or end with the status a shell would give."""
    try:
        os.execvp(command[0], command)
    except OSError as exc:
        if not _exists(command[0]):
            _fail(f"{command[0]}: command not found", NO_COMMAND)
        _fail(f"{command[0]}: {exc.strerror}", CANNOT_EXECUTE)


def _exists(command: str) -> bool:
    """Whether there is such a file: for a directory of PATH that we may not read execvp fails as
    it does for a file that we may not execute."""
    if "/" in command:
        return os.access(command, os.F_OK)
    return any(os.access(f"{folder}/{command}", os.F_OK) for folder in os.get_exec_path())


def main(argv: list[str]) -> NoReturn:
    """Enter and execute; never returns."""
    try:
        options, command = parse_arguments(argv)
        enter(options)
    except EnterError as exc:
        _fail(str(exc), CANNOT_ENTER)
    execute(command)


def _fail(message: str, status: int) -> NoReturn:
    _warn(message)
    sys.exit(status)


def _warn(message: str) -> None:
    sys.stderr.write(f"netns.enter: {message}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
