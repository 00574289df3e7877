"""Metrics of what samples were drawn from, in an evaluation: which pair each sample is compared with."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny
import tiny_piti
import tiny_stages
import torch
from condition_painter import ConditionPainter
from torch import Tensor

from tenshot.callbacks import EvaluateGenerator, StepCheckpoint
from tenshot.callbacks.sample_pairs import SamplePairs
from tenshot.datamodules import Samples
from tenshot.lightning_modules import FolderGenerator
from tenshot.metrics import DiversityLPIPS, MaskIoU

PAIRS = 4


def pairs(**options: Any) -> Any:
    return tiny_piti.pairs(num_val=PAIRS, **options)


@pytest.fixture(scope="module")
def predictor(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose network finds this and that."""
    folder = tmp_path_factory.mktemp("predictor")
    module = tiny.randomised(tiny_piti.predictor())
    tiny.trainer(folder, 1, StepCheckpoint()).fit(module, tiny_piti.pairs())
    return folder


def measured(folder: Path, metrics: list[str] | None, count: int, method: Any = None, **options: Any) -> dict[str, Any]:
    data = options.pop("data", None) or pairs()
    evaluation = EvaluateGenerator(metrics, "random", samples=count, batch_size=3, **options)  # type: ignore[arg-type]
    evaluation.data = data
    samples = Samples(count, 3, conditions=replace(evaluation.conditions, data=data))
    tiny.trainer(folder, 1, evaluation).test(method or ConditionPainter(), samples, verbose=False)
    [file] = (folder / "evaluations").iterdir()
    return json.loads(file.read_text())


def expected(predictor: Path, count: int, used: int) -> dict[str, float]:
    """Sample i beside the condition of pair i modulo ``used``, and the true images of these pairs."""
    data = pairs()
    batch = data.val_source.read(range(PAIRS))
    numbers = torch.arange(count) % used
    masks = batch["condition_image"][numbers]
    images = ConditionPainter().sample(torch.arange(count), {"condition_image": masks})
    iou, diversity = MaskIoU(str(predictor), data.condition_kind), DiversityLPIPS("random")
    iou.update(images, masks)
    iou.update(batch["image"][:used], batch["condition_image"][:used], real=True)
    diversity.update(images, pair=numbers)
    return iou.report().values | diversity.report().values


def of_masks(values: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in values.items() if "diversity" not in name}


@pytest.mark.parametrize(("per_condition", "used"), [(None, 4), (5, 2)])
def test_each_sample_is_compared_with_its_own_condition(
    predictor: Path, tmp_path: Path, per_condition: int | None, used: int
):
    metrics, options = ["mask_iou", "diversity_lpips"], {"predictor": str(predictor), "per_condition": per_condition}
    result = measured(tmp_path, metrics, 10, **options)
    assert result["values"] == {name: pytest.approx(value) for name, value in expected(predictor, 10, used).items()}
    assert result["metrics"]["mask_iou"]["settings"]["n_real"] == used
    assert result["values"]["miou"] != result["values"]["miou_true_images"]
    of = result["drawn_by"]["condition_image_of"]
    assert of.startswith("the first 2 of 4 drawn faces" if per_condition else "4 drawn faces")


def test_so_during_fit_and_of_a_folder_of_such_samples(predictor: Path, tmp_path: Path):
    told = {"predictor": str(predictor), "per_condition": 3, "batch_size": 4}
    evaluation = EvaluateGenerator(
        ["mask_iou"], "random", every_n_steps=1, fit_samples=6, save=str(tmp_path / "saved"), **told
    )
    tiny.trainer(tmp_path / "fit", 2, evaluation).fit(ConditionPainter(), pairs())
    values = pytest.approx(of_masks(expected(predictor, 6, 2)))
    for file in (tmp_path / "fit" / "evaluations").iterdir():
        assert json.loads(file.read_text())["values"] == values
    folder = FolderGenerator(str(tmp_path / "saved" / "step=00000001"))
    told = {"predictor": str(predictor), "per_condition": 3}
    assert measured(tmp_path / "folder", ["mask_iou"], 6, folder, **told)["values"] == values


def test_fewer_samples_than_pairs_are_read_against_the_true_images_of_theirs(predictor: Path, tmp_path: Path):
    result = measured(tmp_path, ["mask_iou"], 3, predictor=str(predictor))
    assert result["values"] == pytest.approx(of_masks(expected(predictor, 3, 3)))


def test_unasked_what_can_be_is_computed_and_what_is_missing_said(
    predictor: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    caplog.set_level("INFO")
    chosen: dict[str, set[str]] = {}
    for name, data, options in (
        ("mask", pairs(), {"predictor": str(predictor), "per_condition": 2}),
        ("sketch", pairs(pairs="sketch"), {}),
    ):
        evaluation = EvaluateGenerator(None, "random", every_n_steps=1, fit_samples=4, **options)  # type: ignore[arg-type]
        evaluation.data = data
        evaluation.setup(tiny.trainer(tmp_path, 1, evaluation), ConditionPainter(), "fit")
        chosen[name] = evaluation.shown.metrics.keys() & {"mask_iou", "edge_agreement", "diversity_lpips"}
    assert chosen == {"mask": {"mask_iou", "diversity_lpips"}, "sketch": {"edge_agreement"}}
    assert "not computed: diversity_lpips, for want of several samples of each condition" in caplog.text


@pytest.mark.parametrize(
    ("metric", "data", "options", "told"),
    [
        (
            "mask_iou",
            {},
            {},
            "needs a network that finds the condition in an image: train one with tenshot fit",
        ),
        ("mask_iou", {"pairs": "sketch"}, {}, "needs samples drawn from masks: take PITI and data with masks"),
        ("edge_agreement", {}, {}, "needs samples drawn from sketches"),
        ("diversity_lpips", {}, {}, "needs several samples of each condition: set --evaluate.per_condition"),
        ("depth_error", {"pairs": "depth"}, {"predictor": ""}, "finds mask in images, the conditions are depth"),
        ("mask_iou", {"image_size": 32}, {"predictor": ""}, "images of 32 px for a --evaluate.predictor of 16 px"),
    ],
)
def test_what_is_missing_is_said_before_anything_is_drawn(
    predictor: Path, tmp_path: Path, metric: str, data: dict[str, Any], options: dict[str, Any], told: str
):
    def draws_nothing(*_: Any) -> Tensor:
        raise AssertionError("something was drawn")

    method = ConditionPainter()
    method.sample = draws_nothing  # type: ignore[method-assign]
    options = {name: value or str(predictor) for name, value in options.items()}
    tiny.refusal(lambda: measured(tmp_path, [metric], 4, method, data=pairs(**data), **options), told)


def test_a_segmenter_of_other_classes_is_refused_and_conditions_of_a_method_that_has_none(
    predictor: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    data = pairs()
    kind = replace(data.condition_kind, classes="coco_stuff")
    tiny.refusal(MaskIoU(str(predictor), kind).prepare, "a segmenter of other classes (regions of a face", "coco_stuff")
    tiny.refusal(lambda: measured(tmp_path, ["vendi"], 4, tiny.ddpm(), per_condition=2), "--evaluate.per_condition")
    other = tiny_stages.saved(tmp_path, tiny.ddpm())
    tiny.refusal(MaskIoU(other, data.condition_kind).prepare, "a checkpoint of DDPM, which has no dense predictor")
    tiny.refusal(lambda: EvaluateGenerator(per_condition=0), "--evaluate.per_condition is 0: choose at least 1")


def test_pairs_are_not_read_for_metrics_that_do_not_look_at_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(SamplePairs, "read", lambda *_: pytest.fail("read"))
    assert measured(tmp_path, ["diversity_lpips"], 8)["values"]["diversity_dist_random"] > 0
