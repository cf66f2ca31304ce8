"""Prometheus' text format: names of counters, labels, numbers, buckets."""

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from tunneld.exposition import Family, Values, exposition
from tunneld.telemetry import Histogram as Buckets
from tunneld.telemetry import Histograms


class Fixed(Collector):
    """Shows these metrics."""

    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = list(metrics)

    def collect(self) -> Iterable[Metric]:
        return self._metrics


def shown(*families: tuple[Family, Values]) -> list[str]:
    """The lines for these, with the prefix ``x_``."""
    registry = CollectorRegistry()
    registry.register(Fixed(family.metric("x_", values) for family, values in families))
    return exposition(registry).decode().splitlines()


def test_a_counter_has_the_very_name_it_was_given() -> None:
    assert shown(
        (Family("failure_count", "counter", "Failures."), 3),
        (Family("lists_total", "counter", "Lists."), 4),
    ) == [
        "# HELP x_failure_count Failures.",
        "# TYPE x_failure_count counter",
        "x_failure_count 3",
        "# HELP x_lists_total Lists.",
        "# TYPE x_lists_total counter",
        "x_lists_total 4",
    ]


def test_families_and_series_are_in_order_whenever_they_came_first() -> None:
    lines = shown(
        (Family("b", "gauge", "B.", ("k",)), {"z": 1, "a": 2}),
        (Family("a", "counter", "A.", ("z", "c")), {("q", "w"): 1, ("p", "w"): 2}),
    )
    assert [line for line in lines if not line.startswith("#")] == [
        'x_a{c="w",z="p"} 2',
        'x_a{c="w",z="q"} 1',
        'x_b{k="a"} 2',
        'x_b{k="z"} 1',
    ]


def test_a_family_without_series_is_not_shown() -> None:
    assert shown((Family("a", "counter", "A.", ("k",)), {})) == []


def test_values_may_come_from_a_call() -> None:
    assert shown((Family("a", "gauge", "A.", ("k",)), lambda: {"v": 1}))[2:] == ['x_a{k="v"} 1']


def test_buckets_are_cumulative_and_their_bounds_written_as_go_does() -> None:
    histogram = Buckets([1e-06, 1e-04, 0.5, 10, 86400])
    for value in (1e-06, 0.5, 7, 1e6):
        histogram.observe(value)
    assert shown((Family("h", "histogram", "H."), histogram)) == [
        "# HELP x_h H.",
        "# TYPE x_h histogram",
        'x_h_bucket{le="1e-06"} 1',
        'x_h_bucket{le="0.0001"} 1',
        'x_h_bucket{le="0.5"} 2',
        'x_h_bucket{le="10"} 3',
        'x_h_bucket{le="86400"} 3',
        'x_h_bucket{le="+Inf"} 4',
        "x_h_sum 1000007.500001",
        "x_h_count 4",
    ]


def test_bound_is_the_last_label_as_go_has_it() -> None:
    histograms = Histograms([1])
    histograms["200"].observe(1)
    lines = shown((Family("h", "histogram", "H.", ("zone",)), histograms))
    assert lines[2] == 'x_h_bucket{zone="200",le="1"} 1'
    assert lines[-1] == 'x_h_count{zone="200"} 1'


def test_texts_are_escaped_so_that_a_parser_gets_them_back() -> None:
    value = 'a "quoted" \\ back\nslash'
    text = "\n".join(shown((Family("g", "gauge", "one\ntwo \\", ("k",)), {value: 1}))) + "\n"
    (family,) = text_string_to_metric_families(text)
    assert family.documentation == "one\ntwo \\"
    assert family.samples[0].labels == {"k": value}


def test_metrics_of_the_library_keep_their_names_too() -> None:
    registry = CollectorRegistry()
    Counter("requests", "Requests.", registry=registry).inc()
    lines = exposition(registry).decode().splitlines()
    assert lines[:3] == [
        "# HELP requests_total Requests.",
        "# TYPE requests_total counter",
        "requests_total 1",
    ]


def test_histogram_of_the_library_parses() -> None:
    registry = CollectorRegistry()
    Histogram("d", "D.", buckets=[1], registry=registry).observe(0.5)
    (family, *_) = text_string_to_metric_families(exposition(registry).decode())
    assert (family.name, family.type) == ("d", "histogram")
