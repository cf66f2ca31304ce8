import re
from xml.etree import ElementTree

import pytest

from bench.charts import growth_charts, result_charts
from bench.results import Spread
from bench.svg import Scale, bars, lines
from tests.bench.factories import rounds

NAMESPACE = "{http://www.w3.org/2000/svg}"


def elements(svg: str, name: str) -> list[ElementTree.Element]:
    return ElementTree.fromstring(svg).findall(f"{NAMESPACE}{name}")


def test_a_linear_scale_goes_from_its_start_over_its_length() -> None:
    scale = Scale(0, 50, 300, -200)
    assert [scale.at(value) for value in (0, 25, 50)] == [300, 200, 100]


def test_a_logarithmic_scale_gives_each_decade_the_same_room() -> None:
    scale = Scale(1, 1000, 0, 300, logarithmic=True)
    assert [scale.at(value) for value in (1, 10, 1000)] == pytest.approx([0, 100, 300])
    assert scale.ticks() == [1, 10, 100, 1000]


@pytest.mark.parametrize(
    ("most", "ticks"),
    [(10, [0, 2, 4, 6, 8, 10]), (0.9, [0, 0.2, 0.4, 0.6, 0.8]), (700, [0, 200, 400, 600])],
)
def test_ticks_are_round_numbers(most: float, ticks: list[float]) -> None:
    assert Scale(0, most, 0, 1).ticks() == pytest.approx(ticks)


def test_bars_are_as_high_as_their_medians_and_show_the_range() -> None:
    svg = bars("speed", {"down": {"ours": Spread(100, 80, 120, 3), "ssh": Spread(50, 50, 50, 3)}})
    heights = [float(each.get("height", "0")) for each in elements(svg, "rect")[3:]]
    assert heights[0] == pytest.approx(2 * heights[1], abs=0.2)
    ranges = [each for each in elements(svg, "line") if each.get("class") == "range"]
    assert float(ranges[0].get("y1", "0")) > float(ranges[0].get("y2", "0"))


def test_text_is_escaped() -> None:
    svg = bars("a < b & c", {"<down>": {'"ours"': Spread(1, 1, 1, 1)}})
    texts = [each.text for each in elements(svg, "text")]
    assert {"a < b & c", "<down>", '"ours"'} <= set(texts)


def test_lines_have_a_point_for_each_value() -> None:
    svg = lines("memory", "agents", {"server": [(1, 5), (10, 6), (100, 5000)]})
    assert len(elements(svg, "circle")) == 3
    (line,) = elements(svg, "polyline")
    assert len(re.findall(r"[\d.]+,[\d.]+", line.get("points", ""))) == 3


def test_a_line_of_one_point_or_of_zeros_can_be_drawn() -> None:
    assert elements(lines("x", "n", {"a": [(10, 0)]}), "circle")


def test_charts_of_results_leave_direct_out_and_draw_only_what_is_known() -> None:
    charts = result_charts([*rounds("ours", 5), *rounds("direct", 900)], ["ours", "direct"])
    assert list(charts) == ["throughput.svg"]
    assert "direct" not in charts["throughput.svg"]


def test_growth_without_agents_has_charts_of_connections_alone() -> None:
    row = {
        "count": 10.0,
        "server_kb_each": 1.0,
        "agent_kb_each": 1.0,
        "connects_per_s": 1.0,
        "opened_per_s": 1.0,
    }
    charts = growth_charts({"connections": [row], "agents": []})
    assert sorted(charts) == ["growth-connects.svg", "growth-memory.svg"]
