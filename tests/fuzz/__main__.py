"""Fuzzing for as long as one likes: mutated inputs, another sequence for each seed.

python -m tests.fuzz --minutes N [--target NAME]... [--seed S] [--tries N]

Prints how many inputs each target took, and each finding with the input in hexadecimal: what broke,
or took long; ends with status 1 if there were any. `--replay HEX` runs one input again.
"""

import argparse
import math
import sys
import time
import traceback
from collections.abc import Iterator, Sequence

from tests.fuzz.mutate import Mutator
from tests.fuzz.target import Target
from tests.fuzz.targets import TARGETS

_PUMPED = 50
"""One input in so many is a long one."""
_SLOW = 2.0
"""Seconds of CPU for one input that are a finding too."""
_FINDINGS = 5
"""Of one target, after which it is enough."""


def fuzz(
    target: Target, seed: int, seconds: float, tries: int, slow: float = math.inf
) -> tuple[int, list[bytes]]:
    """Try inputs until time or tries are used up; how many that were, and those that failed, or
    took more than ``slow`` seconds of CPU."""
    end = time.monotonic() + seconds
    number, findings, seen = 0, [b""][:0], set[str]()
    for number, octets in enumerate(_inputs(target, seed), 1):
        begun = time.process_time()
        place = failure(target, octets)
        if time.process_time() - begun > slow:
            place = "slow"
        if place and place not in seen:
            seen.add(place)
            findings.append(octets)
        if number >= tries or len(findings) >= _FINDINGS or time.monotonic() > end:
            break
    return number, findings


def _inputs(target: Target, seed: int) -> Iterator[bytes]:
    yield from target.seeds
    mutator = Mutator(target.seeds, target.tokens, seed)
    while True:
        for _ in range(_PUMPED - 1):
            yield mutator.next()
        yield mutator.pumped()


def failure(target: Target, octets: bytes) -> str:
    """Where ``target`` fails for this input, printed once in full; "" if it does not."""
    try:
        target.run(octets)
    except Exception as exc:
        return f"{type(exc).__name__} at {traceback.extract_tb(exc.__traceback__)[-1]}"
    return ""


def replay(target: Target, octets: bytes) -> None:
    """Run one input and print what goes wrong."""
    try:
        target.run(octets)
    except Exception:
        traceback.print_exc(file=sys.stdout)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("--minutes", type=float, default=1.0, help="in all, shared by the targets")
    parser.add_argument("--target", action="append", choices=sorted(TARGETS), help="default: all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tries", type=int, default=sys.maxsize, help="for each target")
    parser.add_argument("--replay", type=bytes.fromhex, metavar="HEX")
    options = parser.parse_args(argv)
    targets = [TARGETS[name] for name in options.target or TARGETS]
    if options.replay is not None:
        for target in targets:
            replay(target, options.replay)
        return 0
    found = False
    for target in targets:
        seconds = options.minutes * 60 / len(targets)
        number, findings = fuzz(target, options.seed, seconds, options.tries, _SLOW)
        print(f"{target.name}: {number} inputs, {len(findings)} findings", flush=True)
        for octets in findings:
            found = True
            print(f"  {octets.hex()}")
            begun = time.process_time()
            replay(target, octets)
            print(f"  {time.process_time() - begun:.2f} s of CPU")
    return int(found)


if __name__ == "__main__":
    sys.exit(main())
