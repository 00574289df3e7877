"""What a search found: the best way, how sure it is, its table, its plot, and its place on the page."""

import csv
import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import run_folders
import tiny
import yaml

from tenshot.reports import grouped, read_run
from tenshot.reports.search import Searched, read_search, searches_of
from tenshot.reports.search_files import write_search
from tenshot.reports.section_searches import searches_section

Ways = Sequence[tuple[dict[str, Any], Sequence[float | None]]]
"""Options, and a value for each seed."""
STEPS, SCALE = "model.sampler.steps", "model.guidance.scale"
CURVE: Ways = [({STEPS: 10}, [4.0, 5.0]), ({STEPS: 20}, [2.0, 3.0]), ({STEPS: 50}, [3.0, 2.5])]


def searched(run: Path, ways: Ways, name: str = "search", **changes: Any) -> Searched:
    """A search as its summary tells it."""
    seeds = range(len(ways[0][1]))
    rows = [
        {
            "options": options,
            "records": {},
            "values": {str(seed): {"fid": value, "kid": value} for seed, value in zip(seeds, values, strict=True)},
        }
        for options, values in ways
    ]
    content: dict[str, Any] = {
        "schema": 1, "by": "fid", "more_is_better": False, "seeds": list(seeds), "method": "DDPM",
        "checkpoint": "x.ckpt", "step": 300, "weights": "average", "samples": 1000, "date": "2026-01-01",
        "rows": rows, "identity": {},
    }  # fmt: skip
    folder = run / "searches" / name
    folder.mkdir(parents=True)
    (folder / "search.json").write_text(json.dumps(content | changes))
    return read_search(folder)


def test_the_best_mean_wins_in_either_direction(tmp_path: Path):
    least, most = searched(tmp_path, CURVE), searched(tmp_path, CURVE, "more", more_is_better=True)
    assert least.best is not None
    assert least.best.options == {STEPS: 20}
    assert most.best is not None
    assert most.best.options == {STEPS: 10}
    assert str(least.best.cell("fid")) == f"{2.5:.2f} ± {statistics.stdev([2, 3]):.2f}"


@pytest.mark.parametrize(
    ("ways", "told"),
    [
        (CURVE, ["not better for every seed than sampler.steps 50 (better for 1 of 2): these seeds do not tell"]),
        ([({STEPS: 10}, [1.0, 2.0]), ({STEPS: 20}, [2.0, 3.0])], ["sampler.steps 10 is the smallest value searched"]),
        ([({STEPS: 10}, [2.0, 3.0]), ({STEPS: 20}, [1.0, 2.0])], ["sampler.steps 20 is the largest value searched"]),
        ([({STEPS: 20}, [2.0, 3.0]), ({STEPS: "ddim3"}, [1.0, 2.0])], []),
        ([({STEPS: 10}, [3.0]), ({STEPS: 20}, [1.0]), ({STEPS: 30}, [2.0])], ["one seed: how far values scatter"]),
        ([({STEPS: 10}, [None, 1.0]), ({STEPS: 20}, [None, 1.0])], ["fid is undefined for all values"]),
    ],
)  # fmt: skip
def test_edges_and_noise_are_said(tmp_path: Path, ways: Ways, told: list[str]):
    remarks = list(searched(tmp_path, ways).remarks())
    assert len(remarks) == len(told)
    for remark, words in zip(remarks, told, strict=True):
        assert words in remark


def test_a_value_that_is_undefined_for_a_seed_is_not_the_best(tmp_path: Path):
    found = searched(tmp_path, [({STEPS: 10}, [0.1, None]), ({STEPS: 20}, [2.0, 3.0])])
    assert found.best is not None
    assert found.best.options == {STEPS: 20}
    assert found.wins(found.rows[0]) == 1


def test_table_plot_and_configuration(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    ways = [({STEPS: s, SCALE: g}, [s * g, s + g]) for s in (2, "ddim3") for g in (1, 2) if isinstance(s, int)]
    ways += [({STEPS: "ddim3", SCALE: g}, [0.5 * g, 7.0]) for g in (1, 2)]
    found = searched(tmp_path / "run", ways)
    write_search(found.folder)
    lines = list(csv.DictReader((found.folder / "search.csv").read_text().splitlines()))
    assert [(line[STEPS], line[SCALE]) for line in lines] == [("2", "1"), ("2", "2"), ("ddim3", "1"), ("ddim3", "2")]
    for line, (_, values) in zip(lines, ways, strict=True):
        assert float(line["fid"]) == pytest.approx(statistics.fmean(values), rel=1e-12)
        assert float(line["fid_std"]) == pytest.approx(statistics.stdev(values), rel=1e-12)
        assert [float(value) for value in line["fid_values"].split()] == values
    assert [line["best"] for line in lines] == ["yes", "", "", ""]
    assert [line["best_wins"] for line in lines] == ["", "2", "1", "1"]

    assert yaml.safe_load((found.folder / "search.yaml").read_text()) == {
        "model": {"init_args": {"sampler": {"steps": 2}, "guidance": {"scale": 1}}}
    }
    picture = ElementTree.parse(found.folder / "search.svg").getroot()
    assert picture.tag == "{http://www.w3.org/2000/svg}svg"
    texts = [element.text for element in picture.iter("{http://www.w3.org/2000/svg}text")]
    for word in ("run: 1000 samples", "fid by sampler.steps (guidance.scale 1)", "2", "ddim3"):
        assert word in texts
    marks = [element.get("class") for element in picture.iter("{http://www.w3.org/2000/svg}path")]
    assert sum("seed" in str(mark) for mark in marks) == 8
    assert sum("best" in str(mark) for mark in marks) == 1
    out = capsys.readouterr().out
    assert "best fid (less is better): sampler.steps 2, guidance.scale 1" in out
    assert "sampler:\n      steps: 2\n" in out


def place_of(path: str) -> list[float]:
    """The points of a line."""
    return [float(number) for point in path[1:].split("L") for number in point.split()]


def test_lines_go_through_the_means(tmp_path: Path):
    """Values are equally far apart, and drawn on one linear axis with the seeds."""
    found = searched(tmp_path / "run", CURVE)
    write_search(found.folder)
    paths = ElementTree.parse(found.folder / "search.svg").getroot().iter("{http://www.w3.org/2000/svg}path")
    drawn: list[Mapping[str, str]] = [path.attrib for path in paths]
    [line] = [place_of(path["d"]) for path in drawn if path["class"].startswith("line")]
    x, y = line[::2], line[1::2]
    assert x[1] - x[0] == pytest.approx(x[2] - x[1], abs=0.11)
    assert x[0] < 80 < 320 < x[2] < 350  # over the whole width
    assert (y[2] - y[1]) / (y[0] - y[1]) == pytest.approx((2.75 - 2.5) / (4.5 - 2.5), abs=0.01)
    seeds = [path["d"].split("m")[0] for path in drawn if path["class"].startswith("mark seed")]
    assert [float(place[1:].split()[0]) for place in seeds] == pytest.approx([at for at in x for _ in range(2)])


def test_the_page_shows_runs_of_the_same_search_in_one_chart(tmp_path: Path):
    runs = [run_folders.make_run(tmp_path / f"m_seed{n}", run_folders.config(n)) for n in (1, 2)]
    for run in runs:
        searched(run, CURVE)
    searched(runs[0], [({STEPS: 2}, [1.0, 2.0]), ({STEPS: 3}, [2.0, 3.0])], "shorter")
    groups = grouped([read_run(run) for run in runs])
    page = str(searches_section(groups, {groups[0].name: 0}))
    assert page.count("<figure>") == 4  # fid and kid, of both kinds
    figure = page.split("<figure>")[1]
    assert figure.count('class="line') == 2
    assert figure.count('class="mark best') == 2
    assert figure.count('class="mark seed') == 12
    assert page.count("sampler.steps 20") >= 2
    assert "smallest value searched" in page
    assert "No run was searched" in str(searches_section(groups[:0], {}))


def test_a_summary_that_cannot_be_read_is_named(tmp_path: Path):
    found = searched(tmp_path, CURVE)
    path = found.folder / "search.json"
    for text, word in (("{", "cannot be read"), ('{"schema": 2}', "has schema 2"), ('{"schema": 1}', "cannot be read")):
        path.write_text(text)
        tiny.refusal(lambda: searches_of(tmp_path), str(path), word)
