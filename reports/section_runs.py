"""What else the page says of the runs: curves, cost, configurations, and which runs they are."""

import json
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from tenshot.reports.cost import Cost, cost_of
from tenshot.reports.curves import Chart, charts
from tenshot.reports.groups import Group, config_differences
from tenshot.reports.markup import code, figure, missing, section, swatch, table
from tenshot.reports.svg import chart

__all__ = ["config_section", "cost_section", "curves_section", "runs_section"]


ABSENT = "–"


def curves_section(groups: Sequence[Group], colours: Mapping[str, int]) -> str:
    """Evaluations and losses over the steps."""
    drawn = charts(groups)
    if not drawn:
        why = "No run has a log: logs/version_*/metrics.csv."
        return section("curves", "Training curves", f"<p>{missing(why)}</p>")

    def grid(some: Sequence[Chart]) -> str:
        figures = [
            figure(
                code(one.title) + (f"<small>{escape(one.note)}</small>" if one.note else ""),
                chart(one, colours),
            )
            for one in some
        ]
        return f'<div class="charts">{"".join(figures)}</div>'

    major, minor = [one for one in drawn if not one.minor], [one for one in drawn if one.minor]
    more = f"<details><summary>Split by timestep ({len(minor)} charts)</summary>{grid(minor)}</details>"
    about = "<p>A line a run, over optimiser steps; of more than 200 points neighbours are averaged.</p>"
    return section("curves", "Training curves", about, _key(groups, colours), grid(major), more if minor else "")


def _key(groups: Sequence[Group], colours: Mapping[str, int]) -> str:
    return '<ul class="key">' + "".join(f"<li>{swatch(group.name, colours)}</li>" for group in groups) + "</ul>"


def cost_section(groups: Sequence[Group], colours: Mapping[str, int]) -> str:
    """What training cost, each run apart."""
    names = ("", "steps", "pictures seen", "pictures/s", "hours", "device-hours", "peak memory")
    heads = [(text, text) for text in names]
    body = [
        (f"{swatch(group.name, colours)} <small>{escape(group.label(run))}</small>", _cost(cost_of(run)))
        for group in groups
        for run in group.runs
    ]
    about = (
        "<p>Of training. Hours are those of the log: while the run was alive, with evaluations and grids. Of runs "
        "without them (by files) they run from when config.yaml was written to when the last checkpoint was, by the "
        "times of these files, with pauses too; of files that were copied they are not known. Pictures a second, the "
        "median of the log, are without evaluations, grids and checkpoints.</p>"
    )
    return section("cost", "Cost", about, table(heads, body))


def _cost(cost: Cost) -> list[str]:
    unknown = missing("not recorded")
    kind, plural = f"{cost.device or 'device'}-hours", "es" if cost.device == "CPU" else "s"
    what = "process" if cost.device == "CPU" else cost.device or "device"
    used = f" <small>{cost.devices} {what}{plural * (cost.devices != 1)}</small>" if cost.devices else ""
    by_files = "" if cost.logged else " <small>by files</small>"
    return [
        unknown if cost.steps is None else f"{cost.steps:,}",
        unknown if cost.pictures is None else f"{cost.pictures:,}",
        unknown if cost.rate is None else f"{cost.rate:.3g}",
        unknown if cost.hours is None else _hours(cost.hours) + by_files,
        unknown if cost.device_hours is None else f"{cost.device_hours:.2g} {kind}{used}{by_files}",
        unknown if cost.memory is None else f"{cost.memory:.3g} GiB",
    ]


def _hours(hours: float) -> str:
    return f"{hours:.2f} h" if hours >= 1 else f"{hours * 60:.1f} min"


def config_section(groups: Sequence[Group], colours: Mapping[str, int]) -> str:
    """The options in which the methods differ, and no others."""
    described = [group for group in groups if any(run.config for run in group.runs)]
    if not described:
        return section("config", "Configurations", f"<p>{missing('No run has a config.yaml.')}</p>")
    differing = config_differences([run for group in described for run in group.runs])
    differing.pop("trainer.default_root_dir", None)  # the table of runs has it
    if not differing:
        return section("config", "Configurations", "<p>All runs have the same configuration.</p>")
    heads = [("option", "option"), *((group.name, swatch(group.name, colours)) for group in described)]
    shared: list[tuple[str, list[str]]] = []
    some: list[tuple[str, list[str]]] = []
    for name in differing:
        cells = [_values([run.config.get(name, ABSENT) for run in group.runs]) for group in described]
        (some if ABSENT in cells else shared).append((code(name), cells))
    about = "<p>Only what differs. Several values are those of several runs.</p>"
    more = (
        f"<details><summary>Options that only some methods have ({len(some)})</summary>{table(heads, some)}</details>"
    )
    every = table(heads, shared) if shared else "<p>What all have is the same.</p>"
    return section("config", "Configurations", about, every, more if some else "")


def _values(values: Sequence[Any]) -> str:
    told = dict.fromkeys(_plain(value) for value in values)
    return "<br>".join(escape(text) for text in told)


def _plain(value: Any) -> str:
    if isinstance(value, str):
        return value.removeprefix("tenshot.lightning_modules.").removeprefix("tenshot.datamodules.")
    return json.dumps(value, default=str)


def runs_section(groups: Sequence[Group], colours: Mapping[str, int]) -> str:
    """Which runs these are, and what of each was measured."""
    heads = [(text, text) for text in ("", "folder", "class", "measured", "weights and sampler", "code")]
    body = []
    for group in groups:
        for run in group.runs:
            e = run.evaluation
            sampler = ", ".join(f"{k} {v}" for k, v in (e.get("sampler") or {}).items()) if e else ""
            how = [text for text in ((e or {}).get("weights"), sampler) if text]
            cells = [
                code(str(run.folder)),
                escape(run.method or "?"),
                missing("not measured") if e is None else f"step {e['step']:,}, {e['samples']:,} samples",
                "<br>".join(map(escape, how)) or missing("not recorded"),
                missing("not recorded") if e is None else escape(f"{e.get('code')}, {str(e['date'])[:10]}"),
            ]
            body.append((f"{swatch(group.name, colours)} <small>{escape(group.label(run))}</small>", cells))
    about = (
        "<p>Runs whose folders have the same name but for the seed, and whose configurations are equal but for seeds, "
        "folders and what is only drawn, saved or measured, are one method; <code>--label</code> groups by hand. Of a "
        "run with several evaluations the one of the most samples counts, of these the last step, of these the "
        "most values.</p>"
    )
    return section("runs", "Runs", about, table(heads, body))
