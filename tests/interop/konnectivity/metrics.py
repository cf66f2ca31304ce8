"""The Prometheus text of konnectivity's programs, read."""

from collections.abc import Mapping

from prometheus_client.parser import text_string_to_metric_families

PREFIX = "konnectivity_network_proxy_"

Metrics = Mapping[str, float]
"""By name without `PREFIX`, labels behind it as Prometheus writes them: ``a{b="c"}``."""


def parse_metrics(text: str) -> dict[str, float]:
    """The samples of one exposition that begin with `PREFIX`."""
    samples = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name.startswith(PREFIX):
                labels = ",".join(
                    f'{key}="{value}"' for key, value in sorted(sample.labels.items())
                )
                name = sample.name.removeprefix(PREFIX)
                samples[f"{name}{{{labels}}}" if labels else name] = sample.value
    return samples


def gauges(text: str) -> dict[str, float]:
    """Of the samples, those of gauges."""
    names = {
        family.name.removeprefix(PREFIX)
        for family in text_string_to_metric_families(text)
        if family.type == "gauge"
    }
    return {
        name: value for name, value in parse_metrics(text).items() if name.split("{")[0] in names
    }


def total(metrics: Metrics, name: str) -> float:
    """The sum over all labels."""
    return sum(value for key, value in metrics.items() if key.split("{")[0] == name)
