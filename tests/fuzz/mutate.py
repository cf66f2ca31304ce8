"""Mutations of inputs that are right: the changes that break parsers."""

import random
from collections.abc import Callable, Sequence

MAX_SIZE = 8_192
PUMPED_SIZE = 60_000
"""Octets of an input that shows what takes more than linear time."""
_INTERESTING = [0, 1, 0x7F, 0x80, 0xFF, 0x100, 0x3FFF, 0x4000, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF]
_INTERESTING += [0x80000000, 0xFFFFFFFF]

Chance = random.Random
Change = Callable[[Chance, bytearray, "Mutator"], None]


class Mutator:
    """Makes inputs of a target's seeds, and of its own that were interesting."""

    def __init__(self, seeds: Sequence[bytes], tokens: Sequence[bytes], seed: int) -> None:
        self.chance = random.Random(seed)
        self.corpus = [each[:MAX_SIZE] for each in seeds] or [b""]
        self.tokens = tokens

    def next(self) -> bytes:
        """The next input."""
        data = bytearray(self.chance.choice(self.corpus))
        for _ in range(min(1 + int(self.chance.expovariate(0.5)), 16)):
            self.chance.choice(_CHANGES)(self.chance, data, self)
        return bytes(data[:MAX_SIZE])

    def pumped(self) -> bytes:
        """An input with some part of it repeated until it is long."""
        data = bytearray(self.next())
        start, end = _span(self.chance, data)
        part = bytes(data[start:end]) or b"\0"
        return bytes(data[:start]) + part * (PUMPED_SIZE // len(part)) + bytes(data[end:])


def _place(chance: Chance, data: bytearray) -> int:
    return chance.randrange(len(data) + 1)


def _span(chance: Chance, data: bytearray) -> tuple[int, int]:
    start = _place(chance, data)
    return start, min(len(data), start + int(chance.expovariate(0.1)) + 1)


def _flip(chance: Chance, data: bytearray, mutator: Mutator) -> None:
    if data:
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)


def _octet(chance: Chance, data: bytearray, mutator: Mutator) -> None:
    if data:
        data[chance.randrange(len(data))] = chance.randrange(256)


def _number(chance: Chance, data: bytearray, mutator: Mutator) -> None:
    """An interesting number over what is there, of 1 to 4 octets."""
    size = chance.choice([1, 2, 3, 4])
    value = chance.choice(_INTERESTING) + chance.choice([-1, 0, 0, 1])
    start = _place(chance, data)
    octets = (value % (1 << 8 * size)).to_bytes(size, chance.choice(["big", "little"]))
    data[start : start + size] = octets


def _insert(chance: Chance, data: bytearray, mutator: Mutator) -> None:
    start = _place(chance, data)
    data[start:start] = chance.randbytes(1 + int(chance.expovariate(0.3)))


def _token(chance: Chance, data: bytearray, mutator: Mutator) -> None:
    if mutator.tokens:
        start, end = _span(chance, data)
        data[start : chance.choice([start, end])] = chance.choice(mutator.tokens)


def _delete(chance: Chance, data: bytearray, mutator: Mutator) -> None:
    start, end = _span(chance, data)
    del data[start:end]


def _repeat(chance: Chance, data: bytearray, mutator: Mutator) -> None:
    start, end = _span(chance, data)
    times = chance.choice([1, 2, 3, 10, 100])
    data[end:end] = (data[start:end] * times)[: MAX_SIZE - min(len(data), MAX_SIZE)]


def _splice(chance: Chance, data: bytearray, mutator: Mutator) -> None:
    """The rest of another input."""
    other = chance.choice(mutator.corpus)
    data[_place(chance, data) :] = other[chance.randrange(len(other) + 1) :]


def _append(chance: Chance, data: bytearray, mutator: Mutator) -> None:
    data += chance.choice(mutator.corpus)


def _cut(chance: Chance, data: bytearray, mutator: Mutator) -> None:
    del data[_place(chance, data) :]


_CHANGES: list[Change] = [
    _flip,
    _octet,
    _number,
    _insert,
    _token,
    _token,
    _delete,
    _repeat,
    _splice,
    _append,
    _cut,
]
