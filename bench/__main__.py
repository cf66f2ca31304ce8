"""`python -m bench [COMMAND] [OPTION…]`, from a checkout; without a command: ours beside peers."""

import os
import signal
import sys
from collections.abc import Sequence
from importlib import import_module

from bench.errors import BenchError
from netns import NetnsError

COMMANDS = ("compare", "growth", "startup", "profile", "page")


def main(arguments: Sequence[str]) -> int:
    command, rest = "beside", list(arguments)
    if rest and rest[0] in COMMANDS:
        command = rest.pop(0)
    # So that what was started goes away, as it does by Ctrl-C.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))
    try:
        if os.geteuid() and command != "page" and not {"-h", "--help"} & set(rest):
            raise BenchError("needs root, for the network namespaces: sudo sh dev bench …")
        status: int = import_module(f"bench.{command}").run(rest)
    except (BenchError, NetnsError) as exc:
        print(f"bench: {exc}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
