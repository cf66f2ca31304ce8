"""Twice the octets take no more than twice the calls: counted, not timed. What a single call does
by itself, such as matching a regular expression, is `python -m tests.fuzz`'s matter, which takes
long inputs and looks at the clock."""

import sys
from collections.abc import Iterator

import pytest

from tests.fuzz.target import Target
from tests.fuzz.targets import TARGETS

_SIZE = 3_000
_SLACK = 2_000
"""Calls that do not depend on the size."""


def calls(target: Target, octets: bytes) -> int:
    """How many functions are called, ours and others', for one input."""
    number = 0

    def count(frame: object, event: str, argument: object) -> None:
        nonlocal number
        number += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        target.run(octets)
    finally:
        sys.setprofile(before)
    return number


def growing() -> Iterator[tuple[Target, bytes, bytes]]:
    """What is repeated behind the beginning of an input."""
    for target in TARGETS.values():
        if target.name == "control-server":  # Trio's own calls depend on the kernel's buffers
            continue
        for unit in (*target.tokens, *target.seeds[:3]):
            for beginning in (b"", target.seeds[0]):
                yield target, beginning, unit


@pytest.mark.parametrize("name", [name for name in TARGETS if name != "control-server"])
def test_work_grows_with_the_octets_and_no_faster(name: str) -> None:
    for target, beginning, unit in growing():
        if target.name != name:
            continue
        times = max(1, _SIZE // len(unit))
        less, more = (calls(target, beginning + unit * n) for n in (times, 2 * times))
        assert more < 2.2 * less + _SLACK, (beginning, unit)
