"""Markdown tables."""

from collections.abc import Iterable, Sequence

from bench.goals import Verdict
from bench.metrics import METRICS
from bench.results import Result, ratio, spread


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Numbers to the right, the first column to the left."""
    lines = [_line(head), _line([":--", *["--:"] * (len(head) - 1)])]
    return "\n".join([*lines, *map(_line, rows)])


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def figures(results: Sequence[Result], targets: Sequence[str]) -> str:
    """A column for each target, medians and ranges."""
    rows = []
    for metric in METRICS:
        cells = [spread(results, metric, target) for target in targets]
        if any(cells):
            texts = (cell.text(metric.digits) if cell else "–" for cell in cells)  # noqa: RUF001
            rows.append([metric.title, *texts])
    return markdown(["", *targets], rows)


def ratios(results: Sequence[Result], target: str, others: Sequence[str]) -> str:
    """``target`` ÷ each other, medians of the rounds' ratios and their ranges."""
    rows = []
    for metric in METRICS:
        cells = [ratio(results, metric, target, other) for other in others]
        if any(cells) and not metric.absolute:
            texts = (cell.text(2) if cell else "–" for cell in cells)  # noqa: RUF001
            rows.append([metric.title, *texts])
    return markdown([f"{target} ÷", *others], rows)


def goals(verdicts: Iterable[Verdict]) -> str:
    head = ("", "beside", "goal", "reached", "")
    return markdown(head, (verdict.row for verdict in verdicts))
