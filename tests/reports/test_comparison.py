import csv
import io
import math
from pathlib import Path

import numpy as np
import pytest
from run_folders import config, evaluation, make_run

from tenshot.reports import Group, grouped, read_run
from tenshot.reports.comparison import Cell, Row, compare
from tenshot.reports.write import table

FRECHET = {"tuned": [3.25, 1.5, 2.125], "paired": [1.0, 0.5]}


def two_methods(folder: Path) -> list[Group]:
    runs = []
    for method, values in FRECHET.items():
        for seed, value in enumerate(values):
            result = evaluation(300, value, value / 10)
            runs.append(read_run(make_run(folder / method / f"seed{seed}", config(seed), [result])))
    return grouped(runs)


def row_of(rows: list[Row], value: str) -> Row:
    [row] = [row for row in rows if row.value == value and row.apart is None]
    return row


def test_means_and_spreads_are_those_of_numpy(tmp_path: Path):
    row = row_of(compare(two_methods(tmp_path)), "fid")
    assert row.cells.keys() == FRECHET.keys()
    for method, values in FRECHET.items():
        cell = row.cells[method]
        assert cell.values == values
        assert cell.mean == pytest.approx(np.mean(values), rel=1e-12)
        assert cell.std == pytest.approx(np.std(values, ddof=1), rel=1e-12)
    assert row.best == "paired"
    assert row_of(compare(two_methods(tmp_path / "more")), "intra_lpips").best == "tuned"


def test_values_of_true_conditions_are_compared_as_those_of_generated_ones(tmp_path: Path):
    runs = []
    for method, value in (("near", 1.0), ("far", 3.0)):
        result = evaluation(300, 5.0, 0.2)
        of_true = result["metrics"]["frechet"] | {"values": {"fid_true_conditions": value}}
        result["metrics"]["frechet_true_conditions"] = of_true
        result["shots"] = f"{value} shots"  # with which this metric compares nothing
        runs.append(read_run(make_run(tmp_path / method / "seed0", config(0), [result])))
    row = row_of(compare(grouped(runs)), "fid_true_conditions")
    assert {name: cell.values for name, cell in row.cells.items()} == {"near": [1.0], "far": [3.0]}
    assert row.best == "near"


def test_what_was_measured_otherwise_is_kept_apart(tmp_path: Path):
    same = [evaluation(300, value, 0.2) for value in (1.0, 2.0)]
    few, elsewhere = evaluation(300, 50.0, 0.3, samples=100), evaluation(300, 60.0, 0.4, reference="1000 drawn babies")
    runs = [
        read_run(make_run(tmp_path / "tuned" / f"seed{seed}", config(seed), [result]))
        for seed, result in enumerate([*same, few])
    ]
    runs.append(read_run(make_run(tmp_path / "paired" / "seed0", config(0), [elsewhere])))
    rows = [row for row in compare(grouped(runs)) if row.value == "fid"]
    assert [(row.apart, {name: cell.values for name, cell in row.cells.items()}) for row in rows] == [
        (None, {"tuned": [1.0, 2.0]}),
        ("n_generated 100, not 200", {"tuned": [50.0]}),
        ("reference 1000 drawn babies, not 1000 drawn sunglasses", {"paired": [60.0]}),
    ]
    intra = row_of(compare(grouped(runs)), "intra_lpips")  # which needs no reference: only the few samples are apart
    assert {name: cell.values for name, cell in intra.cells.items()} == {"tuned": [0.2, 0.2], "paired": [0.4]}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"weights_sha256": "c" * 64}, "weights_sha256 cccccccc…, not aaaaaaaa…"),
        ({"features": "random"}, "features random, not absent"),
        ({"size": [32, 32]}, "size [32, 32], not [16, 16]"),
    ],
)
def test_every_setting_keeps_apart(tmp_path: Path, change: dict[str, object], told: str):
    runs = []
    for name in ("a", "b", "other"):
        result = evaluation(300, 1.0, 1.0)
        if name == "other":
            result["metrics"]["frechet"]["settings"] |= change
        runs.append(read_run(make_run(tmp_path / name, config(), [result])))
    assert [row.apart for row in compare(grouped(runs)) if row.value == "fid"] == [None, told]


def test_samples_of_other_classes_are_kept_apart(tmp_path: Path):
    runs = []
    for name, drawn_by in (("a", {"seed": 0}), ("b", {"seed": 0}), ("c", {"condition": {"label": 3}}), ("d", None)):
        told = {} if drawn_by is None else {"drawn_by": drawn_by}
        runs.append(read_run(make_run(tmp_path / name, config(), [evaluation(300, 1.0, 1.0) | told])))
    rows = [row for row in compare(grouped(runs)) if row.value == "fid"]
    assert [row.apart for row in rows] == [None, "label 3, not absent"]
    assert [len(row.cells) for row in rows] == [3, 1]


def test_undefined_values_are_counted_not_averaged():
    cell = Cell([None, 2.0, 4.0], ["a", "b", "c"])
    assert (cell.n, cell.mean, cell.std) == (2, 3.0, pytest.approx(math.sqrt(2)))
    assert (Cell([None], ["a"]).mean, Cell([1.0], ["a"]).std) == (None, None)


def test_numbers_are_written_to_the_second_digit_of_their_spread():
    cells = [[1.2345, 1.4345], [0.0, 0.0], [0.12345678], [1e-9, 3e-9], [120.0, 160.0]]
    assert [str(Cell(list(values), ["x"] * len(values))) for values in cells] == [
        "1.33 ± 0.14", "0 ± 0", "0.1235", "2e-09 ± 1.4e-09", "140 ± 28",
    ]  # fmt: skip


def test_a_tie_has_no_best():
    row = Row("fid", "frechet", {}, False, cells={name: Cell([1.0], ["x"]) for name in "ab"})
    assert row.best is None


def test_whether_more_is_better_is_what_the_papers_say(tmp_path: Path):
    better: dict[str, dict[str, bool | None]] = {
        "kernel": {"kd_random": False, "kd_random_std": None},
        "inception_score": {"is": True, "is_std": None},
        "precision_recall": {"precision": True, "recall": True},
        "nearest_lpips": {"n": True, "n_p05": True, "n_coverage": False, "n_copies": False},  # before there were modes
        "path_length": {"ppl_wend": False},
        "path_uniformity": {"path_lpips": None, "path_lpips_std": False, "path_lpips_ends": True},
        "of_another_program": {"score": None},
    }
    result = evaluation(300, 1.0, 1.0)
    for metric, values in better.items():
        result["metrics"][metric] = {"values": dict.fromkeys(values, 1.0), "settings": {}, "details": {}}
    told = {
        row.value: row.more_is_better
        for row in compare(grouped([read_run(make_run(tmp_path / "a", config(), [result]))]))
    }
    expected = {name: more for values in better.values() for name, more in values.items()}
    assert told == expected | {"fid": False, "intra_lpips": True, "intra_lpips_std": None}


def test_the_table_is_csv_with_all_values(tmp_path: Path):
    lines = list(csv.DictReader(io.StringIO(table(compare(two_methods(tmp_path))))))
    [line] = [line for line in lines if (line["value"], line["method"]) == ("fid", "tuned")]
    assert [float(value) for value in line["values"].split()] == FRECHET["tuned"]
    assert float(line["mean"]) == pytest.approx(np.mean(FRECHET["tuned"]))
    assert float(line["std"]) == pytest.approx(np.std(FRECHET["tuned"], ddof=1))
    assert (line["n"], line["min"], line["max"], line["better"]) == ("3", "1.5", "3.25", "less")
    assert (line["runs"], line["comparable"]) == ("seed 0; seed 1; seed 2", "yes")
    assert '"n_generated": 200' in line["measured"]
