"""Carries out every attack once, each on new processes, and prints a table of what each does to its
victim.

python -m tests.attacks.measure [WORD]     only those attacks whose names have WORD
"""

import sys
import tempfile
from pathlib import Path

from tests.attacks.catalogue import ATTACKS, Attack, Result, carry_out
from tests.attacks.crowds import descriptors
from tests.attacks.world import open_world

_HEAD = "| who → whom | attack | what happens | CPU s | RSS growth MB | honest client |"


def row(attack: Attack, result: Result) -> str:
    """One line of the table."""
    honest = "ok" if not result.failures else f"{len(result.failures)} of {result.dials} failed"
    cells = [
        attack.who,
        attack.name,
        result.happened.replace("|", "/"),
        f"{result.cost.cpu:.2f}",
        f"{result.cost.memory:.1f}",
        f"{honest} ({result.dials} dials)",
    ]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    word = " ".join(sys.argv[1:])
    room = descriptors()
    print(_HEAD)
    print("| --- | --- | --- | ---: | ---: | --- |")
    for attack in ATTACKS:
        if word not in attack.name and word != attack.who:
            continue
        if attack.needs > room:
            print(f"{attack.name}: takes {attack.needs} descriptors", file=sys.stderr)
            continue
        with tempfile.TemporaryDirectory() as directory, open_world(Path(directory)) as world:
            for _ in range(20):  # what the first few connections take is no attacker's doing
                assert world.dial()
            result = carry_out(world, attack)
        print(row(attack, result), flush=True)
        if result.leaked > 0 or result.failures:
            print(f"{attack.name}: {result}", file=sys.stderr)


if __name__ == "__main__":
    main()
