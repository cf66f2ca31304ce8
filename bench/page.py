"""docs/benchmarks.md: its figures stand between marks and are replaced by those of each new run.

    <!-- bench: NAME -->
    …
    <!-- /bench -->

`sh dev bench page FILE…` writes them from the files of ``--json``.
"""

import argparse
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench import table
from bench.charts import growth_charts, result_charts
from bench.errors import BenchError
from bench.goals import OURS, verdicts
from bench.growth import growth_tables
from bench.records import Record, read_record
from bench.results import Result, targets_of
from bench.targets.ours import CHECKOUT

PAGE = CHECKOUT / "docs/benchmarks.md"
PLOTS = CHECKOUT / "docs/benchmarks"


def run(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="sh dev bench page", description=__doc__)
    parser.add_argument("files", type=Path, nargs="+", metavar="FILE")
    for file in parser.parse_args(arguments).files:
        write_page(read_record(file))
    return 0


def write_page(record: Record) -> None:
    """Put a run's figures and plots in the place of those before.

    Raises:
      BenchError: the page lacks their marks.
    """
    sections, plots = parts_of(record)
    PAGE.write_text(replaced(PAGE.read_text(), sections))
    PLOTS.mkdir(exist_ok=True)
    for name, text in plots.items():
        (PLOTS / name).write_text(text)


def parts_of(record: Record) -> tuple[dict[str, str], dict[str, str]]:
    """Sections by name, and plots by file name."""
    if record.kind == "peers":
        return _of_peers(record)
    made = conditions_text(record.conditions)
    if record.kind == "growth":
        plots = growth_charts(record.body)
        text = f"{made}\n\n{growth_tables(record.body)}\n\n{_images(plots)}"
        return {"growth": text}, plots
    return {record.kind: f"{made}\n\n{record.body}"}, {}


def replaced(page: str, sections: Mapping[str, str]) -> str:
    """The page with new sections.

    Raises:
      BenchError: a section's marks are missing.
    """
    for name, text in sections.items():
        found = re.search(rf"<!-- bench: {name} -->\n(.*?)<!-- /bench -->", page, re.DOTALL)
        if not found:
            raise BenchError(f"the page has no marks for {name!r}")
        page = f"{page[: found.start(1)]}\n{text}\n\n{page[found.end(1) :]}"
    return page


def _of_peers(record: Record) -> tuple[dict[str, str], dict[str, str]]:
    results = [Result(**each) for each in record.body]
    targets = targets_of(results)
    plots = result_charts(results, targets)
    sections = {
        "conditions": f"{conditions_text(record.conditions)}\n\n{targets_text(record.conditions)}",
        "goals": table.goals(verdicts(results)),
        "ratios": table.ratios(results, OURS, [name for name in targets if name != OURS]),
        "figures": f"{_images(plots)}\n\n{table.figures(results, targets)}",
    }
    return sections, plots


def conditions_text(facts: Mapping[str, Any]) -> str:
    return (
        f"Measured {facts['date']} at commit {facts['commit']}: {facts['processors']}, "
        f"{facts['memory_gib']} GiB, {facts['kernel']}, TCP {facts['congestion']}, "
        f"Python {facts['python']}, trio {facts['trio']}, {facts['openssl']}."
    )


def targets_text(facts: Mapping[str, Any]) -> str:
    rows = [(name, *texts) for name, texts in facts["targets"].items()]
    absent = [f"{name} is left out: {reason}" for name, reason in facts["absent"].items()]
    head = ("", "version", "security: client's leg; tunnel")
    noise = f"Other programs kept {facts['elsewhere']} processors busy meanwhile."
    return "\n\n".join([noise, table.markdown(head, rows), *absent])


def _images(plots: Mapping[str, str]) -> str:
    return "\n".join(f"![{Path(name).stem}](benchmarks/{name})" for name in plots)
