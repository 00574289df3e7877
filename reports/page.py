"""The page: one file of HTML that loads nothing."""

from collections.abc import Mapping, Sequence
from importlib.resources import files

from markupsafe import Markup

from tenshot.reports.comparison import Row
from tenshot.reports.conditions import Panel
from tenshot.reports.groups import Group, method_differences
from tenshot.reports.images import ImageRow, Nearest
from tenshot.reports.markup import render
from tenshot.reports.section_images import samples_section, shots_section, strips_section
from tenshot.reports.section_metrics import metrics_section
from tenshot.reports.section_runs import config_section, cost_section, curves_section, runs_section
from tenshot.reports.section_searches import searches_section
from tenshot.reports.shots import NotAvailable

__all__ = ["page"]

LINKS = {
    "metrics": "Metrics", "samples": "Samples", "shots": "Nearest training images", "strips": "Between latents",
    "curves": "Curves", "searches": "Searches", "cost": "Cost", "config": "Configurations", "runs": "Runs",
}  # fmt: skip


def page(
    groups: Sequence[Group],
    rows: Sequence[Row],
    shots: Sequence[ImageRow],
    panel: Panel,
    nearest: Mapping[str, Nearest | NotAvailable],
    made: str,
) -> str:
    """All sections.

    Args:
        groups: The methods.
        rows: Their metrics.
        shots: What was trained on.
        panel: What the samples were drawn from, and the true images.
        nearest: By method, its samples next to training images, or why there are none.
        made: By what and when, for the head of the page.
    """
    colours = {group.name: number for number, group in enumerate(groups)}
    count = sum(len(group.runs) for group in groups)
    methods, runs = (f"{n} {word}{'s' * (n != 1)}" for n, word in ((len(groups), "method"), (count, "run")))
    sections = [
        metrics_section(groups, rows, colours),
        samples_section(groups, shots, panel, colours),
        shots_section(groups, nearest, colours),
        strips_section(groups, colours),
        curves_section(groups, colours),
        searches_section(groups, colours),
        cost_section(groups, colours),
        config_section(groups, colours),
        runs_section(groups, colours),
    ]
    filled = render(
        "page.html",
        title=f"{methods} compared",
        style=Markup(files("tenshot.reports").joinpath("page.css").read_text()),
        about=f"{runs}; {made}",
        caveats=caveats(groups),
        links=LINKS,
        sections=sections,
    )
    return str(filled)


def caveats(groups: Sequence[Group]) -> list[str]:
    """What a reader must know of the groups before the numbers."""
    told = []
    for group in groups:
        if group.repeated_seeds:
            seeds = ", ".join(map(str, group.repeated_seeds))
            told.append(f"{group.name}: seed {seeds} occurs more than once, which are no independent runs.")
        if unlike := method_differences(group.runs):
            told.append(f"{group.name}: its runs, put together by --label, differ in {', '.join(unlike)}.")
    return told
