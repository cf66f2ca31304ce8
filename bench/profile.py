"""`sh dev bench profile`: where the CPU time goes, for bulk and for echo.

By library, as perf sees it (Debian: linux-perf), and by Python function, as `bench.sampled` does.
"""

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bench.conditions import conditions
from bench.errors import BenchError
from bench.load_client import load_client, wait_ready
from bench.process import Process, wait_until
from bench.records import Record, add_record_options, keep
from bench.table import markdown
from bench.targets import TARGETS, make_target
from bench.targets.base import Target
from bench.targets.ours import Ours
from bench.world import World, open_world

LOADS = {
    "download": ("down", "--n", 1),
    "upload": ("up", "--n", 1),
    "download-32": ("down", "--n", 32),
    "upload-32": ("up", "--n", 32),
    "echo": ("echo", "--n", 64),
    "echo-1": ("echo", "--n", 1),
    "connect": ("connect", "--n", 16),
}
SHARES = {
    "kernel": r"\[kernel|\[vdso\]|\[guest",
    "TLS": r"libcrypto|libssl|_ssl\.",
    "interpreter": r"libpython|^python3?|\.cpython-",
    "libc": r"^libc[.-]|^ld-|libpthread|libm[.-]",
}
_WARM_UP = 1.0
_FUNCTIONS = 15


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="sh dev bench profile", description=__doc__)
    parser.add_argument("--loads", default="download,upload,echo", help=f"of: {','.join(LOADS)}")
    parser.add_argument("--target", default="ours", choices=[n for n in TARGETS if n != "direct"])
    parser.add_argument("--secs", type=float, default=4)
    add_record_options(parser)
    return parser.parse_args(arguments)


def run(arguments: Sequence[str]) -> int:
    options = parse(arguments)
    loads = options.loads.split(",")
    unknown = sorted(set(loads) - set(LOADS))
    if unknown:
        raise BenchError(f"no load {unknown[0]!r}; there are: {', '.join(LOADS)}")
    if not shutil.which("perf"):
        raise BenchError("no such program: perf (linux-perf)")
    target = make_target(options.target)
    if reason := target.missing():
        raise BenchError(f"{target.name}: {reason}")
    with open_world() as world:
        rows = [row for load in loads for row in library_rows(world, target, load, options.secs)]
        tables = [markdown(["CPU time, %", "cores", *SHARES, "other"], rows)]
        if options.target == "ours":
            tables += [function_table(world, load, options.secs) for load in loads]
    text = "\n\n".join(tables)
    print(text)
    keep(Record("profile", conditions({}), text), options, arguments)
    return 0


def library_rows(
    world: World, target: Target, load: str, seconds: float
) -> Iterator[tuple[str, ...]]:
    """A row for each process: its name, cores it uses, and the shares of `SHARES`."""
    with ExitStack() as stack:
        stack.enter_context(_under_load(world, target, load, seconds))
        files = {role: world.directory / f"{role}.perf" for role in target.processes}
        recorders = [
            Process(_perf_argv(target.processes[role], files[role], seconds), world.log("perf"))
            for role in files
        ]
        before = {role: process.cpu_seconds() for role, process in target.processes.items()}
        time.sleep(seconds)
        used = {
            role: process.cpu_seconds() - before[role] for role, process in target.processes.items()
        }
        for recorder in recorders:
            wait_until(lambda recorder=recorder: not recorder.alive, 20)  # type: ignore[misc]
    for role, file in files.items():
        shares = shares_of(libraries(_perf_report(file)))
        cells = (f"{shares[name]:.0f}" for name in (*SHARES, "other"))
        yield (f"{load}, {role}", f"{used[role] / seconds:.2f}", *cells)


def function_table(world: World, load: str, seconds: float) -> str:
    """The Python functions with the most CPU time of their own, in % of each process's."""
    target = _Sampled()
    with _under_load(world, target, load, seconds):
        for process in target.processes.values():
            os.kill(process.pid, signal.SIGUSR1)
        time.sleep(seconds)
        for process in target.processes.values():
            os.kill(process.pid, signal.SIGUSR2)
        samples = {role: _samples(target.output(world, role)) for role in target.processes}
    totals = {role: sum(found.values()) or 1 for role, found in samples.items()}
    shares: dict[str, float] = {}
    for role, found in samples.items():
        for function, count in found.items():
            shares[function] = shares.get(function, 0) + count / totals[role]
    rows = [
        (
            f"`{function}`",
            *(f"{samples[role][function] / totals[role] * 100:.1f}" for role in samples),
        )
        for function in sorted(shares, key=shares.__getitem__, reverse=True)[:_FUNCTIONS]
    ]
    return markdown([f"{load}: CPU time, %", *samples], rows)


class _Sampled(Ours):
    """Ours with `bench.sampled` around it."""

    def output(self, world: World, role: str) -> Path:
        return world.directory / f"{role}.samples"

    def program(self, world: World, role: str) -> list[str]:
        return ["bench.sampled", str(self.output(world, role))]


def _samples(path: Path) -> Counter[str]:
    wait_until(path.exists, 5)
    found: Counter[str] = Counter(json.loads(path.read_text()))
    path.unlink()  # so that the next load's are not mistaken for these
    return found


@contextmanager
def _under_load(world: World, target: Target, load: str, seconds: float) -> Iterator[None]:
    """The target, busy for ``seconds`` at least."""
    test = (*LOADS[load], "--secs", seconds + _WARM_UP + 5)
    try:
        target.start(world)
        wait_ready(world, target)
        with load_client(world, target, test, seconds + 60):
            time.sleep(_WARM_UP)
            yield
    finally:
        target.stop()


def _perf_argv(process: Process, output: Path, seconds: float) -> list[str]:
    pids = ",".join(map(str, process.tree()))
    options = ("-q", "-e", "cpu-clock", "-F", "997", "-o", str(output), "-p", pids)
    return ["perf", "record", *options, "--", "sleep", str(seconds)]


def _perf_report(file: Path) -> str:
    argv = ["perf", "report", "-i", str(file), "--stdio", "--sort", "dso", "-q"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchError(f"perf report: {done.stderr.strip()[-300:]}")
    return done.stdout


def libraries(report: str) -> dict[str, float]:
    """Percentage by library, from perf's report."""
    found = re.findall(r"^\s*(\d+\.\d+)%\s+(\S+)", report, re.MULTILINE)
    return {name: float(share) for share, name in found}


def shares_of(found: Mapping[str, float]) -> dict[str, float]:
    """By kind: the names of `SHARES`, and ``other``."""
    shares = dict.fromkeys((*SHARES, "other"), 0.0)
    for name, share in found.items():
        kind = next((kind for kind, pattern in SHARES.items() if re.search(pattern, name)), "other")
        shares[kind] += share
    return shares
