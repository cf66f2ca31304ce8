"""The command line of the package."""

import argparse
import json
import signal
import sys
from pathlib import Path
from typing import NoReturn

from tests.e2e.turmoil.faults import FAULTS
from tests.e2e.turmoil.report import render, to_map
from tests.e2e.turmoil.trial import run, schedule


def _end(number: int, _: object) -> NoReturn:
    sys.exit(128 + number)


def main() -> None:
    parser = argparse.ArgumentParser(prog="tests.e2e.turmoil", allow_abbrev=False)
    parser.add_argument("--minutes", type=float, default=15.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--connections", type=int, default=200)
    parser.add_argument("--only", action="append", help="kinds of events with that in their names")
    parser.add_argument("--json", type=Path, help="write what was found there, too")
    parser.add_argument("--report", type=Path, help="write the report there, not to stdout")
    arguments = parser.parse_args()
    arguments.only = arguments.only or [""]
    signal.signal(signal.SIGTERM, _end)  # so that the lab is removed
    faults = [each for each in FAULTS if any(part in each.name for part in arguments.only)]
    result = run(
        arguments.minutes * 60,
        arguments.seed,
        arguments.connections,
        schedule(arguments.seed, faults),
    )
    text = render(result)
    if arguments.report:
        arguments.report.write_text(text + "\n")
    else:
        print(text)
    if arguments.json:
        arguments.json.write_text(json.dumps(to_map(result), indent=1))
    sys.exit(1 if result.violations else 0)


if __name__ == "__main__":
    main()
