"""The tables of metrics on the page: one for what can be compared, one for what was measured otherwise."""

from collections.abc import Mapping, Sequence

from markupsafe import Markup

from tenshot.reports.comparison import Row
from tenshot.reports.groups import Group
from tenshot.reports.markup import render
from tenshot.reports.svg import dots

__all__ = ["metrics_section"]


def metrics_section(groups: Sequence[Group], rows: Sequence[Row], colours: Mapping[str, int]) -> Markup:
    """Methods by metrics."""
    main, apart = [row for row in rows if row.apart is None], [row for row in rows if row.apart is not None]
    return render(
        "metrics.html",
        groups=groups,
        colours=colours,
        main=main,
        apart=apart,
        otherwise={(row.value, name) for row in apart for name in row.cells},
        measured={row.metric: row.basis for row in main},
        dots=dots,
    )
