"""`sh dev bench compare REV [REV2]`: two revisions of ours, in turns.

Each is checked out into a directory of its own and run with this environment's dependencies.
Without REV2 the second is the checkout as it stands.
"""

import argparse
import io
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from bench import table
from bench.beside import add_plan_options, plan, run_plan, seconds
from bench.conditions import conditions
from bench.errors import BenchError
from bench.records import Record, write_record
from bench.targets.base import Target
from bench.targets.ours import CHECKOUT, Ours


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="sh dev bench compare", description=__doc__)
    parser.add_argument("before", metavar="REV")
    parser.add_argument("after", metavar="REV2", nargs="?", help="default: the checkout as it is")
    add_plan_options(parser)
    return parser.parse_args(arguments)


def run(arguments: Sequence[str]) -> int:
    options = parse(arguments)
    with revisions(options.before, options.after) as (before, after):
        targets: dict[str, Target] = {each.name: each for each in (before, after)}
        results = run_plan(targets, plan(options, list(targets)), seconds(options))
        facts = conditions(targets)
    print(table.figures(results, list(targets)))
    print()
    print(table.ratios(results, after.name, [before.name]))
    if options.json:
        body = [asdict(each) for each in results]
        write_record(options.json, Record("compare", facts, body))
    return 0


@contextmanager
def revisions(before: str, after: str | None) -> Iterator[tuple[Ours, Ours]]:
    """Both as targets, named for their commits.

    Raises:
      BenchError: no such revision, or both are the same.
    """
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        first = check_out(before, Path(directory) / "before")
        if after is None:
            second = Ours("checkout", CHECKOUT)
        else:
            second = check_out(after, Path(directory) / "after")
        if first.name == second.name:
            raise BenchError(f"{before} and {after} are the same commit, {first.name}")
        yield first, second


def check_out(revision: str, path: Path) -> Ours:
    """Write the files of a revision to ``path``. Not a worktree: those outlive a crash.

    Raises:
      BenchError: no such revision.
    """
    argument = f"{revision}^{{commit}}"
    commit = _git("rev-parse", "--verify", "--short=10", argument).decode().strip()
    path.mkdir()
    with tarfile.open(fileobj=io.BytesIO(_git("archive", "--format=tar", commit))) as archive:
        archive.extractall(path, filter="data")
    return Ours(commit, path)


def _git(*arguments: str) -> bytes:
    done = subprocess.run(
        ["git", "-C", str(CHECKOUT), *arguments], capture_output=True, check=False
    )
    if done.returncode:
        raise BenchError(f"git {arguments[0]}: {done.stderr.decode().strip()}")
    return done.stdout
