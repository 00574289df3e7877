"""Drawings as inline SVG: line charts, and a row of dots for the spread of a few numbers."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence

from markupsafe import Markup

from tenshot.reports.curves import Chart, Kind, Line

__all__ = ["COLOURS", "chart", "dots", "mark_sign", "picture"]

COLOURS = 8
"""Methods have colour 0 ... 7 of page.css in turn, and after these the same colours dashed."""

MARKS: dict[Kind, str] = {
    "best": "m-4.5 0a4.5 4.5 0 1 0 9 0a4.5 4.5 0 1 0 -9 0z", "copying": "m0 -6.5l5.5 10h-11z",
    "seed": "m-3 0h6m-3 -3v6",
}  # fmt: skip
"""By what a point says, its shape: a disc, an empty triangle, a cross."""

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 360, 200, 52, 10, 8, 22
INSET = 16  # of the first and last label
MOST_LABELS = 8
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
    points += [(mark.step, mark.value) for mark in drawn.marks]
    steps, values = [step for step, _ in points], [value for _, value in points]
    logarithmic = min(values) > 0 and max(values) / min(values) > LOG_BEYOND
    scale = math.log10 if logarithmic else float
    low, high = scale(min(values)), scale(max(values))
    margin = max(0.05 * (high - low), 0.01 * abs(high)) or 1.0  # rounding is no curve
    low, high = low - margin, high + margin
    first, last = (0.0, len(drawn.labels) - 1.0) if drawn.labels else (min(steps), max(steps))

    def x(step: float) -> float:
        inset = INSET if drawn.labels else 0
        return LEFT + inset + (WIDTH - LEFT - RIGHT - 2 * inset) * (step - first) / ((last - first) or 1.0)

    def y(value: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (high - scale(value)) / (high - low)

    parts = [
        f'<path class="grid" d="M{LEFT} {y(tick):.1f}H{WIDTH - RIGHT}"/>'
        f'<text x="{LEFT - 5}" y="{y(tick) + 3.5:.1f}" text-anchor="end">{tick:.4g}</text>'
        for tick in (_decades(low, high) if logarithmic else _ticks(low, high))
    ]
    label = Markup('<text x="{:.1f}" y="{}" text-anchor="{}">{}</text>')
    for step, anchor, text in _labels(drawn, first, last):
        parts.append(label.format(x(step), HEIGHT - 6, anchor, text))
    for name, lines in drawn.lines.items():
        one = Markup('<path class="line {}" d="{}"><title>{}</title></path>')
        parts += [one.format(colour_class(colours[name]), _path(line, x, y), name) for line in lines]
    for mark in drawn.marks:
        shape = Markup('<path class="mark {} {}" d="M{} {}{}"><title>{}</title></path>')
        place, colour = (f"{x(mark.step):.1f}", f"{y(mark.value):.1f}"), colour_class(colours[mark.method])
        parts.append(shape.format(mark.kind, colour, *place, MARKS[mark.kind], mark.title))
    over = f"steps {first:,.0f} to {last:,.0f}" if not drawn.labels else f"{drawn.labels[0]} to {drawn.labels[-1]}"
    about = f"{drawn.title} over {over}, of {', '.join(drawn.lines)}"
    svg = Markup('<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>')
    note = Markup(' <small class="note">logarithmic</small>') if logarithmic else ""
    return svg.format(WIDTH, HEIGHT, about, Markup("".join(parts))) + note


def mark_sign(kind: Kind) -> Markup:
    """The shape of a mark, for the key."""
    shape = f'<path class="mark {kind}" d="M8 9{MARKS[kind]}"/>'
    return Markup(f'<svg class="sign" viewBox="0 0 16 16" aria-hidden="true">{shape}</svg>')


def picture(charts: Sequence[Chart], title: str, style: str) -> str:
    """Charts of one unnamed method below each other, as an SVG file that needs no other.

    Args:
        charts: At least one.
        title: Above them.
        style: page.css.
    """
    text, place = Markup('<text x="4" y="{}">{}</text>'), 16
    parts = [text.format(place, title)]
    for one in charts:
        note = f" ({one.note})" if one.note else ""
        parts.append(text.format(place + 20, f"{one.title}{note}"))
        parts.append(Markup('<g transform="translate(0 {})">{}</g>').format(place + 26, Markup(_inner(one))))
        place += 26 + HEIGHT
    whole = Markup(
        '<svg xmlns="http://www.w3.org/2000/svg" class="chart" viewBox="0 0 {0} {1}" width="{2}" height="{3}">'
        "<style>{4}</style>{5}</svg>\n"
    )
    size = (WIDTH, place + 4, 2 * WIDTH, 2 * (place + 4))
    return str(whole.format(*size, Markup(style), Markup("").join(parts)))


def _inner(one: Chart) -> str:
    """What is inside of a chart's svg."""
    drawn = str(chart(one, {"": 0}))
    return drawn[drawn.index(">") + 1 : drawn.index("</svg>")]


def _labels(drawn: Chart, first: float, last: float) -> Iterator[tuple[float, str, str]]:
    """Below the axis: where, how aligned, what."""
    if not drawn.labels:
        yield first, "start", f"{first:,.0f}"
        yield last, "end", f"{last:,.0f}"
    every = -(-len(drawn.labels) // MOST_LABELS)
    for place in range(0, len(drawn.labels), max(1, every)):
        yield float(place), "middle", drawn.labels[place]


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
