"""Runs `tunneld` with a sampler of Python functions: `python -m bench.sampled FILE ARGUMENT…`.

SIGUSR1 begins to sample, SIGUSR2 ends it and writes FILE: a JSON map from function to samples. A
sample is taken each 2 ms of CPU time, the kernel's included, and counts for the innermost Python
function; the interpreter looks at signals between instructions, so what C code does counts for its
caller. Sampling from another thread would see us only where the GIL is let go.
"""

import json
import signal
import sys
from collections import Counter
from pathlib import Path
from types import FrameType

from tunneld.cli import main

_INTERVAL = 0.002
_samples: Counter[str] = Counter()


def _sample(_number: int, frame: FrameType | None) -> None:
    if frame is not None:
        module = frame.f_globals.get("__name__", "?")
        _samples[f"{module}.{frame.f_code.co_qualname}"] += 1


def _begin(_number: int, _frame: FrameType | None) -> None:
    _samples.clear()
    signal.setitimer(signal.ITIMER_PROF, _INTERVAL, _INTERVAL)


def _end(_number: int, _frame: FrameType | None) -> None:
    signal.setitimer(signal.ITIMER_PROF, 0)
    _OUTPUT.with_suffix(".new").write_text(json.dumps(_samples))
    _OUTPUT.with_suffix(".new").rename(_OUTPUT)


if __name__ == "__main__":
    _OUTPUT = Path(sys.argv.pop(1))
    signal.signal(signal.SIGPROF, _sample)
    signal.signal(signal.SIGUSR1, _begin)
    signal.signal(signal.SIGUSR2, _end)
    main()
