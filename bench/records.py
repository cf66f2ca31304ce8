"""What a run leaves behind: a JSON file, and its part of the page, each if it is wanted."""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Record:
    kind: str
    """``peers``, ``growth``, ``startup``, ``profile`` or ``compare``."""
    conditions: dict[str, Any]
    body: Any
    """As the kind has it."""


def add_record_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    parser.add_argument(
        "--page",
        action="store_true",
        help="write them into docs/benchmarks.md too; so does a run without any options",
    )


def keep(record: Record, options: argparse.Namespace, arguments: Sequence[str]) -> None:
    """
    Args:
      arguments: what the options were parsed from.
    """
    if options.json:
        write_record(options.json, record)
    if options.page or not arguments:
        from bench.page import write_page  # it knows all kinds, and so all commands

        write_page(record)


def write_record(path: Path, record: Record) -> None:
    path.write_text(json.dumps(asdict(record), indent=1) + "\n")


def read_record(path: Path) -> Record:
    return Record(**json.loads(path.read_text()))
