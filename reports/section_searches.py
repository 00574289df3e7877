"""What searches over options of drawing found, on the page."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from markupsafe import Markup

from tenshot.reports.curves import Chart
from tenshot.reports.groups import Group
from tenshot.reports.markup import render
from tenshot.reports.search import searches_of
from tenshot.reports.svg import chart, mark_sign

__all__ = ["searches_section"]


def searches_section(groups: Sequence[Group], colours: Mapping[str, int]) -> Markup:
    """The best way of drawing of each search, and its values; searches of the same values by the same are in one chart.

    Raises:
        InputError: A search cannot be read.
    """
    found = [(group, run, one) for group in groups for run in group.runs for one in searches_of(run.folder)]
    charts: dict[str, Chart] = {}
    for group, run, one in found:
        for kind, drawn in one.charts():
            together = charts.setdefault(kind, replace(drawn, lines={}, marks=[]))
            together.lines.setdefault(group.name, []).extend(drawn.lines[""])
            title = group.title(run)
            together.marks += [replace(m, method=group.name, title=f"{title}: {m.title}") for m in drawn.marks]
    return render(
        "searches.html",
        groups=groups,
        colours=colours,
        found=found,
        charts=charts.values(),
        drawn=chart,
        sign=mark_sign,
    )
