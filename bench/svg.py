"""Bar and line charts as SVG, without a library: text in, text out."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from bench.results import Spread

COLOURS = (
    "#0072b2",
    "#e69f00",
    "#009e73",
    "#cc79a7",
    "#56b4e9",
    "#d55e00",
    "#7f7f7f",
    "#b3a100",
    "#000000",
)
"""Okabe and Ito's, which colour-blind readers can tell apart, and a grey."""

_WIDTH = 760
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 16, 82, 44
_HEIGHT = 358
_PLOT_WIDTH = _WIDTH - _LEFT - _RIGHT
_PLOT_HEIGHT = _HEIGHT - _TOP - _BOTTOM
_STYLE = (
    "text{font:12px sans-serif;fill:#222}.title{font-size:14px;font-weight:bold}"
    ".axis{stroke:#888;stroke-width:1}.grid{stroke:#ddd;stroke-width:1}"
    ".range{stroke:#222;stroke-width:1}"
)


@dataclass(frozen=True)
class Scale:
    """From values to pixels along one axis."""

    least: float
    most: float
    start: float
    length: float
    logarithmic: bool = False

    def at(self, value: float) -> float:
        low, high, here = self.least, self.most, value
        if self.logarithmic:
            low, high, here = math.log10(low), math.log10(high), math.log10(max(value, low))
        return self.start + (here - low) / ((high - low) or 1) * self.length

    def ticks(self) -> list[float]:
        """Round values within the range."""
        if self.logarithmic:
            first, last = math.floor(math.log10(self.least)), math.ceil(math.log10(self.most))
            powers = [10.0**exponent for exponent in range(first, last + 1)]
            return [value for value in powers if self.least <= value <= self.most]
        step = _round_step((self.most - self.least) / 5)
        return [n * step for n in range(math.floor(self.most / step) + 1)]


def bars(title: str, groups: Mapping[str, Mapping[str, Spread]]) -> str:
    """Groups of bars from 0 up, one for each series, with the range as a line.

    Args:
      groups: by label, each with values by series.
    """
    series = list(dict.fromkeys(name for group in groups.values() for name in group))
    most = max((each.most for group in groups.values() for each in group.values()), default=1)
    scale = Scale(0, most * 1.05 or 1, _HEIGHT - _BOTTOM, -_PLOT_HEIGHT)
    parts = _horizontal_grid(scale)
    slot = _PLOT_WIDTH / max(len(groups), 1)
    width = slot * 0.85 / max(len(series), 1)
    for number, (label, group) in enumerate(groups.items()):
        left = _LEFT + slot * number + slot * 0.075
        middle = _LEFT + slot * (number + 0.5)
        parts.append(_text(middle, _HEIGHT - _BOTTOM + 18, label, "middle"))
        for name, value in group.items():
            index = series.index(name)
            parts += _bar(left + width * index, width, value, scale, _colour(index))
    return _document(title, series, parts)


def lines(title: str, x_title: str, series: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    """Points joined by lines; x is logarithmic, y too if its values span more than a factor 30."""
    points = [point for each in series.values() for point in each]
    xs, ys = [x for x, _ in points] or [1, 10], [y for _, y in points if y > 0] or [1]
    wide = max(ys) / min(ys) > 30
    across = Scale(min(xs), max(xs), _LEFT + 20, _PLOT_WIDTH - 40, logarithmic=True)
    low = 10 ** math.floor(math.log10(min(ys))) if wide else 0
    up = Scale(low, max(ys) * 1.1, _HEIGHT - _BOTTOM, -_PLOT_HEIGHT, logarithmic=wide)
    parts = _horizontal_grid(up)
    for tick in across.ticks():
        parts.append(_text(across.at(tick), _HEIGHT - _BOTTOM + 18, f"{tick:,.0f}", "middle"))
    parts.append(_text(_LEFT + _PLOT_WIDTH / 2, _HEIGHT - 8, x_title, "middle"))
    for index, each in enumerate(series.values()):
        path = " ".join(f"{across.at(x):.1f},{up.at(y):.1f}" for x, y in each)
        colour = _colour(index)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [
            f'<circle cx="{across.at(x):.1f}" cy="{up.at(y):.1f}" r="3" fill="{colour}"/>'
            for x, y in each
        ]
    return _document(title, list(series), parts)


def _bar(left: float, width: float, value: Spread, scale: Scale, colour: str) -> list[str]:
    top, middle = scale.at(value.median), left + width / 2
    height = scale.start - top
    box = f'x="{left:.1f}" y="{top:.1f}" width="{width * 0.9:.1f}" height="{height:.1f}"'
    ends = f'y1="{scale.at(value.least):.1f}" y2="{scale.at(value.most):.1f}"'
    return [
        f'<rect {box} fill="{colour}"/>',
        f'<line class="range" x1="{middle:.1f}" x2="{middle:.1f}" {ends}/>',
    ]


def _horizontal_grid(scale: Scale) -> list[str]:
    parts = []
    for tick in scale.ticks():
        y = f"{scale.at(tick):.1f}"
        parts.append(f'<line class="grid" x1="{_LEFT}" y1="{y}" x2="{_WIDTH - _RIGHT}" y2="{y}"/>')
        parts.append(_text(_LEFT - 8, scale.at(tick) + 4, f"{tick:,.6g}", "end"))
    base = _HEIGHT - _BOTTOM
    parts.append(
        f'<line class="axis" x1="{_LEFT}" y1="{base}" x2="{_WIDTH - _RIGHT}" y2="{base}"/>'
    )
    return parts


def _document(title: str, series: Sequence[str], parts: Sequence[str]) -> str:
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{_HEIGHT}" '
        f'viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(title)}">'
    )
    return "\n".join(
        [
            head,
            f"<style>{_STYLE}</style>",
            '<rect width="100%" height="100%" fill="#fff"/>',
            f'<text class="title" x="{_LEFT}" y="22">{escape(title)}</text>',
            *_legend(series),
            *parts,
            "</svg>\n",
        ]
    )


def _legend(series: Sequence[str]) -> list[str]:
    """From left to right, in a second row what does not fit into the first."""
    parts = []
    left, top = float(_LEFT), 34
    for index, name in enumerate(series):
        width = 30 + 7 * len(name)
        if left + width > _WIDTH:
            left, top = float(_LEFT), top + 18
        box = f'x="{left:.0f}" y="{top}" width="12" height="12"'
        parts.append(f'<rect {box} fill="{_colour(index)}"/>')
        parts.append(_text(left + 16, top + 10, name))
        left += width
    return parts


def _text(x: float, y: float, text: str, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _colour(index: int) -> str:
    return COLOURS[index % len(COLOURS)]


def _round_step(least: float) -> float:
    """1, 2 or 5 times a power of ten, not below ``least``."""
    power: float = 10.0 ** math.floor(math.log10(least)) if least > 0 else 1.0
    return next((n * power for n in (1, 2, 5) if n * power >= least), 10 * power)
