"""Charts as inline SVG, drawn here: no script, no font, no request. Colours come from the page's CSS.

Each point has a `<title>`, which browsers show as a tooltip. All text passes through `escape`.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import fmean

from markupsafe import Markup, escape

from synthoma.report import words

WIDTH, HEIGHT = 520, 250
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 26, 34
MOST_POINTS = 120
# Line styles of the page's CSS, told apart by colour and by dashes.
STYLES = ("accent", "second", "third", "fourth", "fifth", "sixth")


@dataclass(frozen=True)
class Series:
    """A line: points (x, y) and, where known, the half-width of a band around each. `style`: one of STYLES."""

    name: str
    points: Sequence[tuple[float, float]]
    style: str = "accent"
    band: Sequence[float] = field(default_factory=tuple)


def nice_ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Round values within [low, high], at most about `most`, with steps of 1, 2 or 5 times a power of ten."""
    if not high > low:
        return [low]
    raw = (high - low) / most
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * m for m in (1, 2, 5, 10) if power * m >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [i * step for i in range(first, math.floor(high / step + 1e-9) + 1)]


def thinned(points: Sequence[tuple[float, float]], most: int = MOST_POINTS) -> list[tuple[float, float]]:
    """At most `most` points: means of neighbouring ones, so that a long run stays a small page."""
    per = -(-len(points) // most) if points else 1
    parts = [points[i : i + per] for i in range(0, len(points), per)]
    return [(fmean(x for x, _ in part), fmean(y for _, y in part)) for part in parts]


def line_chart(
    series: Sequence[Series],
    *,
    unit: str,
    x_unit: str,
    label: str,
    y_range: tuple[float | None, float | None] = (None, None),
    x_range: tuple[float, float] | None = None,
    mark: tuple[float, str] | None = None,
    logarithmic: bool = False,
    x_words: str = "thousand images",
) -> Markup:
    """Lines over a common x. `unit` stands above the y axis, `x_unit` under the x axis, `label` is for readers of screens.

    y_range: fixed ends of the y axis where not None. x_range: ends of the x axis, else from 0 to the last point. mark: an x value to point out, with its words. logarithmic: the y
    axis shows whole decades; every value, less its band, must then be above zero. x_words: what a point's x counts.
    """
    xs = [x for line in series for x, _ in line.points]
    spread = [
        (y - (line.band[i] if line.band else 0), y + (line.band[i] if line.band else 0))
        for line in series
        for i, (_, y) in enumerate(line.points)
    ]
    x_low, x_high = x_range or (0.0, max(xs) or 1.0)
    least, most = min(a for a, _ in spread), max(b for _, b in spread)
    scale: Callable[[float], float] = math.log10 if logarithmic else float
    if logarithmic:
        first, last = math.floor(scale(least)), math.ceil(scale(most))
        ticks = [10.0**power for power in range(first, last + 1, -(-(last - first) // 6) or 1)]
        low, high = float(first), float(last)
    else:
        low, high = _range(least, most, y_range)
        ticks = nice_ticks(low, high)

    def x_at(x: float) -> float:
        return LEFT + (x - x_low) / (x_high - x_low) * (WIDTH - LEFT - RIGHT)

    def y_at(y: float) -> float:
        return HEIGHT - BOTTOM - (scale(y) - low) / (high - low) * (HEIGHT - TOP - BOTTOM)

    parts = [_axes(nice_ticks(x_low, x_high, 6), ticks, x_at, y_at, unit, x_unit)]
    if mark:
        x = x_at(mark[0])
        end = "end" if x > WIDTH * 0.6 else "start"
        shift = -5 if end == "end" else 5
        parts.append(f'<line class="mark" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>')
        parts.append(
            f'<text class="note" x="{x + shift:.1f}" y="{TOP + 10}" text-anchor="{end}">{escape(mark[1])}</text>'
        )
    for line in series:
        parts.append(_line(line, x_at, y_at, x_words))
    return _svg("chart", f"0 0 {WIDTH} {HEIGHT}", label, parts)


def _range(low: float, high: float, fixed: tuple[float | None, float | None]) -> tuple[float, float]:
    margin = (high - low) * 0.06 or abs(high) * 0.1 or 1.0
    low, high = (low - margin if fixed[0] is None else fixed[0]), (high + margin if fixed[1] is None else fixed[1])
    return (low, high) if high > low else (low, low + 1.0)


def _axes(
    xs: list[float],
    ys: list[float],
    x_at: Callable[[float], float],
    y_at: Callable[[float], float],
    unit: str,
    x_unit: str,
) -> str:
    parts = [f'<text class="unit" x="0" y="12">{escape(unit)}</text>']
    for value in ys:
        y = y_at(value)
        parts.append(f'<line class="rule" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{LEFT - 7}" y="{y + 4:.1f}" text-anchor="end">{tick_text(value, ys)}</text>')
    parts.append(f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{HEIGHT - BOTTOM}" y2="{HEIGHT - BOTTOM}"/>')
    for value in xs:
        x = x_at(value)
        anchor = "end" if x > WIDTH - RIGHT - 10 else "middle"
        parts.append(
            f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="{anchor}">{tick_text(value, xs)}</text>'
        )
    parts.append(f'<text class="unit" x="{WIDTH - RIGHT}" y="{HEIGHT - 3}" text-anchor="end">{escape(x_unit)}</text>')
    return "".join(parts)


def tick_text(value: float, ticks: Sequence[float]) -> str:
    """A tick's number with just the decimals that tell the ticks apart."""
    step = abs(ticks[1] - ticks[0]) if len(ticks) > 1 else abs(value) or 1.0
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    if abs(value) >= 10_000:
        return words.count(value)
    return words.fixed(value, min(decimals, 6))


def _line(line: Series, x_at: Callable[[float], float], y_at: Callable[[float], float], x_words: str) -> str:
    places = [(x_at(x), y_at(y)) for x, y in line.points]
    parts = []
    if line.band:
        upper = [(x_at(x), y_at(y + b)) for (x, y), b in zip(line.points, line.band, strict=True)]
        # A fixed end of the axis, such as 0 for shares, ends the band too.
        lower = [(x_at(x), min(y_at(y - b), HEIGHT - BOTTOM)) for (x, y), b in zip(line.points, line.band, strict=True)]
        corners = " ".join(f"{x:.1f},{y:.1f}" for x, y in [*upper, *reversed(lower)])
        parts.append(f'<polygon class="band {line.style}" points="{corners}"/>')
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    parts.append(f'<polyline class="line {line.style}" points="{path}"/>')
    dots = len(places) <= 30
    for i, ((px, py), (x, y)) in enumerate(zip(places, line.points, strict=True)):
        if dots:
            parts.append(f'<circle class="dot {line.style}" cx="{px:.1f}" cy="{py:.1f}" r="2.6"/>')
        error = f" ± {words.number(line.band[i], 2)}" if line.band else ""
        words_here = f"{line.name}: {words.number(y)}{error} at {words.number(x)} {x_words}"
        parts.append(
            f'<circle class="hit" cx="{px:.1f}" cy="{py:.1f}" r="7"><title>{escape(words_here)}</title></circle>'
        )
    return "".join(parts)


@dataclass(frozen=True)
class Strip:
    """An interval beside its floor on one axis: what `interval_strip` draws.

    value, floor: (low, value, high); axis: ends of the axis; yardstick: a further value, or None.
    """

    value: tuple[float, float, float]
    floor: tuple[float, float, float]
    axis: tuple[float, float]
    yardstick: float | None = None
    title: str = ""


def interval_strip(strip: Strip) -> Markup:
    """Floor as a grey block, the measured interval as a bar with its value as a dot, the yardstick as a dashed line.

    100 units wide and stretched to its cell; strokes keep their width.
    """
    low, high = strip.axis

    def at(value: float) -> float:
        return 3 + 94 * min(1.0, max(0.0, (value - low) / (high - low)))

    def bar(ends: tuple[float, float, float], style: str, top: float, height: float, least: float) -> str:
        left, right = at(ends[0]), at(ends[2])
        width = max(right - left, least)
        left = min(left, 100 - width)
        return f'<rect class="{style}" x="{left:.2f}" y="{top}" width="{width:.2f}" height="{height}"/>'

    parts = [
        '<line class="rail" x1="0" x2="100" y1="9" y2="9"/>',
        bar(strip.floor, "floor", 2, 14, 1.4),
        f'<line class="floor-value" x1="{at(strip.floor[1]):.2f}" x2="{at(strip.floor[1]):.2f}" y1="1" y2="17"/>',
        bar(strip.value, "interval", 7, 4, 1.4),
        f'<line class="value" x1="{at(strip.value[1]):.2f}" x2="{at(strip.value[1]):.2f}" y1="4" y2="14"/>',
    ]
    if strip.yardstick is not None:
        x = at(strip.yardstick)
        parts.append(f'<line class="yardstick" x1="{x:.2f}" x2="{x:.2f}" y1="1" y2="17"/>')
    title = f"<title>{escape(strip.title)}</title>"
    return _svg("strip", "0 0 100 18", strip.title, [title, *parts], ' preserveAspectRatio="none"')


def _svg(style: str, box: str, label: str, parts: Sequence[str], attributes: str = "") -> Markup:
    """The drawing as markup: its parts are numbers, our own words, and text that was escaped when it was put in."""
    head = f'<svg class="{style}" viewBox="{box}"{attributes} role="img" aria-label="{escape(label)}">'
    return Markup(f"{head}{''.join(parts)}</svg>")  # noqa: S704


def forest_strip(ends: tuple[float, float, float], axis: tuple[float, float], margin: float, title: str) -> Markup:
    """A row of a forest plot: the interval (low, value, high) of a change, the line of no change, the margin around it.

    100 units wide and stretched to its cell, as `interval_strip`.
    """
    low, high = axis

    def at(value: float) -> float:
        return 3 + 94 * min(1.0, max(0.0, (value - low) / (high - low)))

    left, middle, right = (at(end) for end in ends)
    parts = [
        f"<title>{escape(title)}</title>",
        f'<rect class="margin" x="{at(-margin):.2f}" y="0" width="{at(margin) - at(-margin):.2f}" height="18"/>',
        f'<line class="none" x1="{at(0):.2f}" x2="{at(0):.2f}" y1="0" y2="18"/>',
        f'<rect class="interval" x="{left:.2f}" y="7" width="{max(right - left, 0.8):.2f}" height="4"/>',
        f'<line class="value" x1="{middle:.2f}" x2="{middle:.2f}" y1="4" y2="14"/>',
    ]
    return _svg("strip", "0 0 100 18", title, parts, ' preserveAspectRatio="none"')
