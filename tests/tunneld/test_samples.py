"""Prometheus' text out of plain values, by its own parser."""

from prometheus_client.parser import text_string_to_metric_families

from tunneld.samples import labelled, merged, metric, text_of
from tunneld.telemetry import Histogram


def test_every_kind_of_metric_is_read_by_prometheus_own_parser() -> None:
    histogram = Histogram((0.5, 1))
    for value in (0.2, 0.7, 3):
        histogram.observe(value)
    text = text_of(
        [
            metric("a_bytes", "gauge", "Some\nbytes.", [({"x": 'q"\\\n'}, 1.5)]),
            metric("b_total", "counter", "Count.", [({}, 3)]),
            metric("c_seconds", "histogram", "Time.", [({"role": "edge"}, histogram)]),
            metric("none", "gauge", "Nothing.", []),
        ]
    )
    found = {family.name: family for family in text_string_to_metric_families(text)}
    assert sorted(found) == ["a_bytes", "b", "c_seconds"]
    assert found["a_bytes"].samples[0].labels == {"x": 'q"\\\n'}
    assert found["b"].samples[0].value == 3
    values = {(each.name, each.labels.get("le")): each.value for each in found["c_seconds"].samples}
    assert values["c_seconds_bucket", "0.5"] == 1
    assert values["c_seconds_bucket", "1"] == 2
    assert values["c_seconds_bucket", "+Inf"] == values["c_seconds_count", None] == 3


def test_metrics_of_several_roles_become_one_with_their_labels() -> None:
    one = labelled([metric("a", "gauge", "A.", [({"x": "1"}, 1)])], {"role": "edge"})
    two = labelled([metric("a", "gauge", "A.", [({"x": "1"}, 2)])], {"role": "home"})
    assert merged([*one, *two]) == [
        {
            "name": "a",
            "type": "gauge",
            "help": "A.",
            "samples": [
                ("a", {"x": "1", "role": "edge"}, 1),
                ("a", {"x": "1", "role": "home"}, 2),
            ],
        }
    ]
    assert text_of([*one, *two]).count("# TYPE") == 1
