"""Metrics that need to know what each sample was conditioned on, or its true image."""

import json
from pathlib import Path
from typing import Any

import pytest
import tiny
from class_painter import CLASSES, ClassPainter, PairedFaces, Together

from tenshot.callbacks import EvaluateGenerator
from tenshot.datamodules import Samples
from tenshot.errors import InputError
from tenshot.metrics import METRICS

COUNT = 11


@pytest.fixture(autouse=True)
def _known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METRICS, "together", Together)


def paired() -> PairedFaces:
    return PairedFaces(image_size=16, batch_size=4, num_images=12, num_val=0)


def measured(folder: Path, data: Any, **options: Any) -> dict[str, Any]:
    evaluation = EvaluateGenerator(["together"], "random", samples=COUNT, batch_size=4, **options)  # type: ignore[list-item]
    evaluation.data = data
    samples = Samples(COUNT, 4, conditions=evaluation.conditions)
    tiny.trainer(folder, 1, evaluation).test(ClassPainter(), samples, verbose=False)
    [file] = (folder / "evaluations").iterdir()
    return json.loads(file.read_text())


@pytest.mark.parametrize("options", [{"labels": "uniform"}, {"label": 3}])
@pytest.mark.parametrize("during_fit", [False, True])
def test_each_sample_comes_with_its_condition_and_its_true_image(tmp_path: Path, options: Any, during_fit: bool):
    if during_fit:
        evaluation = EvaluateGenerator(
            ["together"], "random", batch_size=4, every_n_steps=1, fit_samples=COUNT, **options
        )  # type: ignore[list-item]
        tiny.trainer(tmp_path, 1, evaluation).fit(ClassPainter(), paired())
        [file] = (tmp_path / "evaluations").iterdir()
        result = json.loads(file.read_text())
    else:
        result = measured(tmp_path, paired(), **options)
    labels = [3 if "label" in options else number % CLASSES for number in range(COUNT)]
    rows = [[label, number, label, number] for number, label in enumerate(labels)]
    assert result["metrics"]["together"]["details"]["seen"] == rows
    assert result["values"] == {"together": COUNT, "labels": len(set(labels))}
    assert result["drawn_by"]["condition"] == options


def test_what_a_metric_needs_and_is_not_there_is_said_before_anything_is_drawn(tmp_path: Path):
    for data, options, told in (
        (paired(), {}, "together needs samples of chosen classes: set --evaluate.labels uniform"),
        (tiny.faces(), {"label": 1}, "together needs the true image of each sample, which these data have not"),
    ):
        with pytest.raises(InputError, match=f"--evaluate.metrics {told}"):
            measured(tmp_path, data, **options)
    few = paired()
    few.paired = COUNT - 1
    with pytest.raises(InputError, match=f"--evaluate.samples is {COUNT}, but there are true images of {COUNT - 1}"):
        measured(tmp_path, few, label=1)
    assert not list(tmp_path.iterdir())
