"""Runs a module as a program and kills it by SIGKILL before its n-th touch of the machine.

    python dying.py N MODULE ARGUMENT…

A touch is a change of the file system, a new socket, or a system call of `netns.kernel`, as
Python's audit and profile hooks see them; nothing of the program is replaced. A program that
touches less often runs to its end.
"""

import os
import runpy
import signal
import sys
from types import FrameType

from netns import kernel

_CHANGES = ("os.mkdir", "os.rmdir", "os.link", "os.remove", "os.rename", "os.setxattr")
_OTHERS = ("os.removexattr", "socket.__new__")

_left = int(sys.argv[1])


def _touch() -> None:
    global _left
    _left -= 1
    if _left == 0:
        os.kill(os.getpid(), signal.SIGKILL)


def _audit(event: str, arguments: tuple[object, ...]) -> None:
    if event in _CHANGES or event in _OTHERS or (event == "open" and _writes(arguments[2])):
        _touch()


def _writes(flags: object) -> bool:
    return isinstance(flags, int) and bool(flags & (os.O_WRONLY | os.O_RDWR))


def _profile(frame: FrameType, event: str, _: object) -> None:
    if event == "call" and frame.f_code.co_filename == kernel.__file__:
        _touch()


sys.argv = sys.argv[2:]
sys.addaudithook(_audit)
sys.setprofile(_profile)
runpy.run_module(sys.argv[0], run_name="__main__")
