"""Prometheus' text format 0.0.4: families of series out of plain values, and how they are written.

Written here and not by `prometheus_client.generate_latest`, which cannot write a counter whose name
does not end in ``_total``; konnectivity has three of those.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import TypeAlias

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric
from prometheus_client.samples import Sample

from tunneld.telemetry import Histogram

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""Of `exposition`."""

Value: TypeAlias = int | float | Histogram
Values: TypeAlias = (
    Value
    | Mapping[str, Value]
    | Mapping[tuple[str, str], Value]
    | Mapping[tuple[str, str, str], Value]
    | Callable[[], Mapping[str, int]]
)
"""What an attribute of a telemetry object holds: one value, or one for each value of the label, or
for each tuple of values of the labels; or what returns these."""


@dataclass(frozen=True, slots=True)
class Family:
    """A metric: what Prometheus calls all series of one name."""

    name: str
    """Without the prefix."""
    type: str
    help: str
    labels: tuple[str, ...] = ()

    def metric(self, prefix: str, values: Values) -> Metric:
        """All series of it as they are now."""
        name = prefix + self.name
        # The library has counters without the suffix, and puts it into their samples.
        base = name.removesuffix("_total") if self.type == "counter" else name
        metric = Metric(base, self.help, self.type)
        for labels, value in self._series(values):
            if isinstance(value, Histogram):
                metric.samples.extend(_histogram_samples(name, labels, value))
            else:
                metric.samples.append(Sample(name, labels, value))
        return metric

    def _series(self, values: Values) -> Iterator[tuple[dict[str, str], Value]]:
        if callable(values):
            values = values()
        if not isinstance(values, Mapping):
            yield {}, values
            return
        for key, value in sorted(values.items(), key=lambda item: item[0]):
            key = (key,) if isinstance(key, str) else key
            yield dict(zip(self.labels, key, strict=True)), value


def _histogram_samples(name: str, labels: dict[str, str], histogram: Histogram) -> Iterator[Sample]:
    totals = list(accumulate(histogram.counts))
    for bound, total in zip((*histogram.bounds, None), totals, strict=True):
        le = "+Inf" if bound is None else _number(bound)
        yield Sample(f"{name}_bucket", labels | {"le": le}, total)
    yield Sample(f"{name}_sum", labels, histogram.sum)
    yield Sample(f"{name}_count", labels, totals[-1])


def exposition(registry: CollectorRegistry) -> bytes:
    """All metrics in Prometheus' text format 0.0.4 (`CONTENT_TYPE`), by name. Blocks only as long
    as reading ``/proc/self`` does."""
    lines: list[str] = []
    for metric in sorted(registry.collect(), key=lambda each: each.name):
        lines += _lines(metric)
    return "".join(f"{line}\n" for line in lines).encode()


def _lines(metric: Metric) -> Iterable[str]:
    """A metric without series yields nothing, as in Go."""
    if not metric.samples:
        return
    name = metric.samples[0].name if metric.type == "counter" else metric.name
    text = metric.documentation.replace("\\", r"\\").replace("\n", r"\n")
    yield f"# HELP {name} {text}"
    yield f"# TYPE {name} {metric.type}"
    for sample in metric.samples:
        yield f"{sample.name}{_label_text(sample.labels)} {_number(sample.value)}"


def _label_text(labels: Mapping[str, str]) -> str:
    """Label names in order, but ``le`` last, as Go's library has them."""
    if not labels:
        return ""
    names = sorted(labels, key=lambda name: (name == "le", name))
    return "{" + ",".join(f'{name}="{_escape(labels[name])}"' for name in names) + "}"


def _escape(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def _number(value: float) -> str:
    """As Go writes it, as far as buckets' bounds go: 10 and not 10.0, since a bound is a label."""
    return repr(value).removesuffix(".0")
