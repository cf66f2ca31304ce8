"""What is fuzzed: a parser, inputs that it takes, and what must hold for every input."""

import itertools
import random
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Target:
    """One parser.

    Attributes:
      name: of it.
      run: parses one input, whatever it is, and checks what must hold; anything that it raises is
        a finding.
      seeds: inputs that are right, or nearly so.
      tokens: what inputs are made of.
    """

    name: str
    run: Callable[[bytes], object]
    seeds: Sequence[bytes]
    tokens: Sequence[bytes] = ()


def cuts(data: bytes) -> list[list[bytes]]:
    """``data`` in one piece, cut at a few places that depend on it alone, and octet by octet if it
    is short."""
    chance = random.Random(zlib.crc32(data))
    places = sorted(chance.randrange(len(data) + 1) for _ in range(5))
    some = [data[a:b] for a, b in itertools.pairwise([0, *places, len(data)])]
    found = [[data], some]
    if len(data) <= 500:
        found.append([data[i : i + 1] for i in range(len(data))])
    return found


def same_for_all_cuts(data: bytes, outcome: Callable[[list[bytes]], object]) -> None:
    """Where octets are cut must not matter for what comes of them."""
    first, *others = cuts(data)
    expected = outcome(first)
    for parts in others:
        found = outcome(parts)
        assert found == expected, f"{parts!r}: {found!r}, in one piece {expected!r}"
