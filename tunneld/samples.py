"""What a role tells Prometheus, as plain values: it may run in another process than who is asked.

A metric is a map ``name``, ``type``, ``help`` and ``samples``: lists of name, labels and value.
"""

from collections.abc import Iterable, Mapping
from itertools import accumulate
from typing import Any, TypeAlias

from tunneld.telemetry import Histogram

Labels: TypeAlias = Mapping[str, str]
Sample: TypeAlias = tuple[str, dict[str, str], float]


def metric(
    name: str, kind: str, text: str, values: Iterable[tuple[Labels, float | Histogram]]
) -> dict[str, Any]:
    """One metric.

    Args:
      name: with the prefix; of a counter, with ``_total``.
      kind: ``gauge``, ``counter``, ``histogram``.
    """
    samples: list[Sample] = []
    for labels, value in values:
        if isinstance(value, Histogram):
            samples += _of_histogram(name, labels, value)
        else:
            samples.append((name, dict(labels), value))
    return {"name": name, "type": kind, "help": text, "samples": samples}


def _of_histogram(name: str, labels: Labels, histogram: Histogram) -> list[Sample]:
    totals = list(accumulate(histogram.counts))
    bounds = [*(repr(bound).removesuffix(".0") for bound in histogram.bounds), "+Inf"]
    return [
        *(
            (f"{name}_bucket", {**labels, "le": bound}, float(total))
            for bound, total in zip(bounds, totals, strict=True)
        ),
        (f"{name}_sum", dict(labels), histogram.sum),
        (f"{name}_count", dict(labels), float(totals[-1])),
    ]


def labelled(metrics: Iterable[dict[str, Any]], labels: Labels) -> list[dict[str, Any]]:
    """The metrics with more labels on each sample."""
    return [
        {
            **each,
            "samples": [(name, {**own, **labels}, value) for name, own, value in each["samples"]],
        }
        for each in metrics
    ]


def merged(metrics: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """One metric of each name, with the samples of all; by name."""
    found: dict[str, dict[str, Any]] = {}
    for each in metrics:
        if each["name"] in found:
            found[each["name"]]["samples"].extend(each["samples"])
        else:
            found[each["name"]] = {**each, "samples": list(each["samples"])}
    return [found[name] for name in sorted(found)]


def text_of(metrics: Iterable[dict[str, Any]]) -> str:
    """Prometheus' text format 0.0.4."""
    lines: list[str] = []
    for each in merged(metrics):
        if not each["samples"]:
            continue
        help_text = each["help"].replace("\\", r"\\").replace("\n", r"\n")
        lines.append(f"# HELP {each['name']} {help_text}")
        lines.append(f"# TYPE {each['name']} {each['type']}")
        lines += [_line(*sample) for sample in each["samples"]]
    return "".join(f"{line}\n" for line in lines)


def _line(name: str, labels: Labels, value: float) -> str:
    number = repr(value).removesuffix(".0")
    if not labels:
        return f"{name} {number}"
    ordered = sorted(labels, key=lambda label: (label == "le", label))
    pairs = ",".join(f'{label}="{_escaped(labels[label])}"' for label in ordered)
    return f"{name}{{{pairs}}} {number}"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
