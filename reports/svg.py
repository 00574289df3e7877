"""Drawings as inline SVG: line charts, and a row of dots for the spread of a few numbers."""

import math
from collections.abc import Callable, Mapping, Sequence

from markupsafe import Markup

from tenshot.reports.curves import Chart, Kind, Line

__all__ = ["COLOURS", "chart", "dots", "mark_sign"]

COLOURS = 8
"""Methods have colour 0 ... 7 of page.css in turn, and after these the same colours dashed."""

MARKS: dict[Kind, str] = {"best": "m-4.5 0a4.5 4.5 0 1 0 9 0a4.5 4.5 0 1 0 -9 0z", "copying": "m0 -6.5l5.5 10h-11z"}
"""By what a point says, its shape: a disc, an empty triangle."""

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 360, 200, 52, 10, 8, 22
LOG_BEYOND = 50.0
"""Values that span a larger factor are drawn on a logarithmic axis."""


def dots(values: Sequence[float], extent: tuple[float, float], mean: float | None, colour: int) -> Markup:
    """Values on the way from the least to the largest of ``extent``, and a stroke at their mean."""
    low, high = extent
    at = lambda value: 5 + 110 * ((value - low) / (high - low) if high > low else 0.5)  # noqa: E731
    marks = "".join(f'<circle cx="{at(value):.1f}" cy="6" r="3.2"/>' for value in values)
    stroke = "" if mean is None else f'<path d="M{at(mean):.1f} 1v10"/>'
    return Markup(
        f'<svg class="dots c{colour % COLOURS}" viewBox="0 0 120 12" aria-hidden="true">'
        f'<path class="rail" d="M5 6h110"/>{marks}{stroke}</svg>'
    )


def chart(drawn: Chart, colours: Mapping[str, int]) -> Markup:
    """A line a run, in the colour of its method, and its marks; the axis is logarithmic where values span a large
    factor."""
    points = [point for lines in drawn.lines.values() for line in lines for point in line]
    steps, values = [step for step, _ in points], [value for _, value in points]
    logarithmic = min(values) > 0 and max(values) / min(values) > LOG_BEYOND
    scale = math.log10 if logarithmic else float
    low, high = scale(min(values)), scale(max(values))
    margin = max(0.05 * (high - low), 0.01 * abs(high)) or 1.0  # rounding is no curve
    low, high, first, last = low - margin, high + margin, min(steps), max(steps)

    def x(step: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (step - first) / ((last - first) or 1.0)

    def y(value: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (high - scale(value)) / (high - low)

    parts = [
        f'<path class="grid" d="M{LEFT} {y(tick):.1f}H{WIDTH - RIGHT}"/>'
        f'<text x="{LEFT - 5}" y="{y(tick) + 3.5:.1f}" text-anchor="end">{tick:.4g}</text>'
        for tick in (_decades(low, high) if logarithmic else _ticks(low, high))
    ]
    for step, anchor in ((first, "start"), (last, "end")):
        parts.append(f'<text x="{x(step):.1f}" y="{HEIGHT - 6}" text-anchor="{anchor}">{step:,.0f}</text>')
    for name, lines in drawn.lines.items():
        one = Markup('<path class="line {}" d="{}"><title>{}</title></path>')
        parts += [one.format(colour_class(colours[name]), _path(line, x, y), name) for line in lines]
    for mark in drawn.marks:
        shape = Markup('<path class="mark {} {}" d="M{} {}{}"><title>{}</title></path>')
        place, colour = (f"{x(mark.step):.1f}", f"{y(mark.value):.1f}"), colour_class(colours[mark.method])
        parts.append(shape.format(mark.kind, colour, *place, MARKS[mark.kind], mark.title))
    about = f"{drawn.title} over steps {first:,.0f} to {last:,.0f}, of {', '.join(drawn.lines)}"
    svg = Markup('<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>')
    note = Markup(' <small class="note">logarithmic</small>') if logarithmic else ""
    return svg.format(WIDTH, HEIGHT, about, Markup("".join(parts))) + note


def mark_sign(kind: Kind) -> Markup:
    """The shape of a mark, for the key."""
    shape = f'<path class="mark {kind}" d="M8 9{MARKS[kind]}"/>'
    return Markup(f'<svg class="sign" viewBox="0 0 16 16" aria-hidden="true">{shape}</svg>')


def colour_class(colour: int) -> str:
    """Classes of page.css."""
    return f"c{colour % COLOURS}" + f" d{colour // COLOURS % 3}"


def _path(line: Line, x: Callable[[float], float], y: Callable[[float], float]) -> str:
    return "M" + "L".join(f"{x(step):.1f} {y(value):.1f}" for step, value in line)


def _ticks(low: float, high: float) -> list[float]:
    """About five round numbers between two."""
    rough = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
    return [round(number * step, 12) for number in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _decades(low: float, high: float) -> list[float]:
    """Powers of ten between two powers, not more than about six."""
    every = range(math.ceil(low), math.floor(high) + 1)
    return [10.0**power for power in every[:: max(1, len(every) // 6 + 1) if len(every) > 6 else 1]]
