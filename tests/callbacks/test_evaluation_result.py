"""The files of evaluations: each measurement has its own, and none is overwritten."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import tiny

from tenshot.callbacks.evaluation_result import _kept
from tenshot.errors import InputError

RESULT = {"samples": 16, "seed": 0, "values": {"fid": 2.5}, "checkpoint": "a.ckpt", "code": "1", "date": "now"}


def read(folder: Path) -> dict[str, dict[str, Any]]:
    return {path.name: json.loads(path.read_text()) for path in folder.iterdir()}


def test_every_measurement_has_its_own_file(tmp_path: Path):
    path = tmp_path / "step=00000004.json"
    results = [RESULT, *(RESULT | change for change in ({"samples": 4}, {"seed": 1}, {"values": {"fid": 2.6}}))]
    written = [_kept(path, result) for result in results]
    assert [file.name for file in written] == ["step=00000004.json", *(f"step=00000004-{n}.json" for n in (2, 3, 4))]
    for file, result in zip(written, results, strict=True):
        assert json.loads(file.read_text()) == result
    assert _kept(path, results[2] | {"date": "later", "checkpoint": "moved/a.ckpt"}) == written[2]
    assert read(tmp_path) == {file.name: result for file, result in zip(written, results, strict=True)}


def test_a_file_that_is_no_result_is_not_overwritten(tmp_path: Path):
    path = tmp_path / "step=00000004.json"
    path.write_text("torn")
    assert _kept(path, RESULT).name == "step=00000004-2.json"
    assert path.read_text() == "torn"


def test_where_there_are_no_links_names_are_given_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def refused(*names: Path) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("os.link", refused)
    path = tmp_path / "a.json"
    assert [_kept(path, RESULT | {"seed": seed}).name for seed in (0, 1, 0)] == ["a.json", "a-2.json", "a.json"]
    monkeypatch.setattr("os.replace", refused)
    with pytest.raises(InputError, match=r"a-3.json|a.json: could not be written"):
        _kept(path, RESULT | {"seed": 2})
    assert sorted(read(tmp_path)) == ["a-2.json", "a.json"]


def test_a_result_names_in_full_what_it_measured(tenshot: tiny.Run, shots: Path, tmp_path: Path):
    """Two folders of one name, and one of them by another metric."""
    for name in ("a", "b"):
        shutil.copytree(shots, tmp_path / name / "drawn")
    (tmp_path / "b" / "drawn" / "4.png").unlink()
    words = ["test", "--model", "FolderGenerator", "--data", "FewShot", "--data.root", shots, "--data.image_size", "16"]
    words += ["--evaluate.features", "random", "--evaluate.samples", "4", "--trainer.default_root_dir", tmp_path]
    for name, metric in (("a", "nearest_lpips"), ("b", "nearest_lpips"), ("b", "pairwise_lpips")):
        metrics = ["--evaluate.metrics", f"[{metric}]"]
        outcome = tenshot(*words, *metrics, "--model.root", tmp_path / name / "drawn")
        assert outcome.status == 0, outcome.err
    results = read(tmp_path / "evaluations")
    assert sorted(results) == ["drawn-2.json", "drawn-3.json", "drawn.json"]
    for name, folder in (("drawn", "a"), ("drawn-2", "b"), ("drawn-3", "b")):
        assert results[f"{name}.json"]["drawn_by"]["folder"] == str((tmp_path / folder / "drawn").resolve())
        assert results[f"{name}.json"]["data"]["root"] == str(shots.resolve())
    assert list(results["drawn-2.json"]["metrics"]) == ["nearest_lpips"]
    assert list(results["drawn-3.json"]["metrics"]) == ["pairwise_lpips"]
