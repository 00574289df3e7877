"""Runs of an older version go on, draw and are measured as that version did it itself (fixtures/old_runs/README.md)."""

import csv
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
import tiny
from PIL import Image

ARCHIVE = Path(__file__).parents[1] / "fixtures" / "old_runs.tar.xz"
RUNS = pytest.mark.parametrize("run", ["ddpm_pa", "cdc"])
CLOSE = {"rel": 2e-3, "abs": 2e-5}
"""Other processors round sums otherwise."""


@pytest.fixture(autouse=True)
def expected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Unpacks them where the test runs; the folder of what the older version made of them."""
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "expected"


def losses(run: Path) -> list[dict[str, float]]:
    """What was logged of the two last steps, without times."""
    with next(run.rglob("metrics.csv")).open() as file:
        rows = list(csv.DictReader(file))[-2:]
    return [
        {name: float(value) for name, value in row.items() if value and name.split("/")[0] in ("train", "collapse")}
        for row in rows
    ]


@RUNS
def test_training_goes_on(tenshot: tiny.Run, tmp_path: Path, expected: Path, run: str):
    """By two steps, from where the source now is; weights, averages and optimisers are those of the checkpoint."""
    outcome = tenshot("fit", "--config", f"{run}/config.yaml", "--ckpt_path", run, "--trainer.max_steps", "6")
    assert outcome.status == 0, outcome.err
    assert (tmp_path / run / "checkpoints" / "step=00000006.ckpt").is_file()
    for ours, theirs in zip(losses(tmp_path / run), losses(expected / run), strict=True):
        assert {name: ours[name] for name in theirs} == pytest.approx(theirs, **CLOSE)


@RUNS
def test_images_are_the_same(tenshot: tiny.Run, tmp_path: Path, expected: Path, run: str):
    outcome = tenshot("predict", "--ckpt_path", run, "--images.count", "4")
    assert outcome.status == 0, outcome.err
    for path in sorted((expected / run / "images").iterdir()):
        ours, theirs = (np.asarray(Image.open(p)).astype(int) for p in (tmp_path / run / "images" / path.name, path))
        assert np.abs(ours - theirs).max() <= 2


@RUNS
def test_metrics_are_the_same(tenshot: tiny.Run, tmp_path: Path, expected: Path, run: str):
    few = ["--evaluate.samples", "6", "--evaluate.reference", "6", "--evaluate.paths", "2"]
    outcome = tenshot("test", "--ckpt_path", run, "--evaluate.features", "random", *few)
    assert outcome.status == 0, outcome.err
    [result] = (tmp_path / run / "evaluations").glob("*.json")
    ours, theirs = (json.loads(path.read_text())["values"] for path in (result, expected / run / "evaluation.json"))
    assert {name: ours[name] for name in theirs} == pytest.approx(theirs, **CLOSE)
