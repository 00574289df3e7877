"""What else the page says of the runs: curves, cost, configurations, and which runs they are."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from tenshot.reports.cost import Cost, cost_of
from tenshot.reports.curves import charts
from tenshot.reports.groups import Group, config_differences
from tenshot.reports.markup import render
from tenshot.reports.stopping import Stopping, stopping_of
from tenshot.reports.svg import chart, mark_sign

__all__ = ["config_section", "cost_section", "curves_section", "runs_section"]

ABSENT = "–"


def curves_section(groups: Sequence[Group], colours: Mapping[str, int]) -> Markup:
    """Evaluations and losses over the steps, and where the runs are best or begin to copy."""
    drawn = charts(groups)
    stops = [(group, run, stopping_of(run)) for group in groups for run in group.runs]
    return render(
        "curves.html",
        groups=groups,
        colours=colours,
        major=[one for one in drawn if not one.minor],
        minor=[one for one in drawn if one.minor],
        stops=[stop for stop in stops if stop[2] != Stopping()],
        drawn=chart,
        sign=mark_sign,
    )


def cost_section(groups: Sequence[Group], colours: Mapping[str, int]) -> Markup:
    """What training cost, each run apart."""
    rows = [(group, run, _cost(cost_of(run))) for group in groups for run in group.runs]
    return render("cost.html", colours=colours, rows=rows)


def _cost(cost: Cost) -> list[tuple[str, ...]]:
    """By column: the number, empty where it is not known, and notes."""
    kind, plural = f"{cost.device or 'device'}-hours", "es" if cost.device == "CPU" else "s"
    what = "process" if cost.device == "CPU" else cost.device or "device"
    used = f"{cost.devices} {what}{plural * (cost.devices != 1)}" if cost.devices else ""
    by_files = "" if cost.logged else "by files"
    return [
        ("" if cost.steps is None else f"{cost.steps:,}",),
        ("" if cost.images is None else f"{cost.images:,}",),
        ("" if cost.rate is None else f"{cost.rate:.3g}",),
        ("",) if cost.hours is None else (_hours(cost.hours), by_files),
        ("",) if cost.device_hours is None else (f"{cost.device_hours:.2g} {kind}", used, by_files),
        ("" if cost.memory is None else f"{cost.memory:.3g} GiB",),
    ]


def _hours(hours: float) -> str:
    return f"{hours:.2f} h" if hours >= 1 else f"{hours * 60:.1f} min"


def config_section(groups: Sequence[Group], colours: Mapping[str, int]) -> Markup:
    """The options in which the methods differ, and no others."""
    described = [group for group in groups if any(run.config for run in group.runs)]
    differing = config_differences([run for group in described for run in group.runs])
    differing.pop("trainer.default_root_dir", None)  # the table of runs has it
    of_all: list[tuple[str, list[list[str]]]] = []
    of_some: list[tuple[str, list[list[str]]]] = []
    for name in differing:
        cells = [_values([run.config.get(name, ABSENT) for run in group.runs]) for group in described]
        (of_some if [ABSENT] in cells else of_all).append((name, cells))
    return render("config.html", groups=described, colours=colours, of_all=of_all, of_some=of_some)


def _values(values: Sequence[Any]) -> list[str]:
    """Each once."""
    return list(dict.fromkeys(_plain(value) for value in values))


def _plain(value: Any) -> str:
    if isinstance(value, str):
        return value
    return json.dumps(value, default=str)


def runs_section(groups: Sequence[Group], colours: Mapping[str, int]) -> Markup:
    """Which runs these are, and what of each was measured."""
    return render("runs.html", groups=groups, colours=colours)
