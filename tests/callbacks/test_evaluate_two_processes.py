"""Two gloo processes that train nothing: evaluations in fit, searches and strips are those of one process.

Run by ``run_ranks``, this file is the script of one rank.
"""

import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from class_painter import CLASSES, ClassPainter, PairedFaces, Together
from condition_painter import ConditionPainter
from lightning.pytorch import Trainer
from linear_generator import LinearGenerator
from PIL import Image
from ranks import run_ranks

from tenshot.callbacks import EvaluateGenerator, InterpolationStrip
from tenshot.callbacks.feature_choice import features_decided
from tenshot.callbacks.metric_choice import OF_CONDITIONS, Requests
from tenshot.callbacks.search import Search, Way
from tenshot.cli.search import NoSamples
from tenshot.datamodules import SyntheticFaces
from tenshot.datamodules.synthetic_faces import FacesSource
from tenshot.metrics import METRICS
from tenshot.models.pretrained import weight_files

SAMPLES, REFERENCE, SHOTS, PATHS = 11, 9, 3, 3
KEEP_BEST = "path_dist_random_std"


def fitted(folder: Path, read: list[int], **arguments: Any) -> None:
    """Two evaluations of the same weights, with whatever is read of the reference noted."""
    reference = SyntheticFaces.reference

    def counted(self: SyntheticFaces, count: int) -> FacesSource:
        source = reference(self, count)
        plain = source.read
        source.read = lambda indices: read.extend(indices) or plain(indices)  # type: ignore[method-assign, func-returns-value]
        return source

    SyntheticFaces.reference = counted  # type: ignore[method-assign, assignment]
    try:
        evaluation = EvaluateGenerator(
            [name for name in METRICS if name not in ("spatial_frechet", "consistency", *OF_CONDITIONS)],  # type: ignore[misc]
            "random", reference=REFERENCE, batch_size=4, paths=PATHS, every_n_steps=1, fit_samples=SAMPLES,
            keep_best=KEEP_BEST,
        )  # fmt: skip
        strip = InterpolationStrip(every_n_steps=2, rows=3, points=3)
        trainer = tiny.trainer(folder, 2, evaluation, strip, **arguments)
        trainer.fit(LinearGenerator(noise=0.1), tiny.faces(shots=SHOTS, batch_size=2))
    finally:
        SyntheticFaces.reference = reference  # type: ignore[method-assign]


class Adjustable(LinearGenerator):
    """One that can be drawn from with more or less noise."""

    drawing = ("noise",)

    def draw_as(self, other: "Adjustable") -> None:
        self.noise = other.noise


def searched(folder: Path, **arguments: Any) -> None:
    """Two ways of drawing with two seeds, one of which is measured already."""
    search = Search({}, "fd_random")
    search.ways = [Way({"model.noise": n}, {"model.noise": n}, Adjustable(noise=n)) for n in (0.1, 0.5)]
    search.evaluation = EvaluateGenerator(["frechet"], "random", samples=SAMPLES, reference=REFERENCE, batch_size=4)
    search.evaluation.data = tiny.faces(shots=SHOTS)
    trainer = tiny.trainer(folder, 1, search, **arguments)
    for seeds in (1, 2):
        search.count = seeds
        trainer.test(Adjustable(), NoSamples(), verbose=False)


def conditioned(folder: Path, **arguments: Any) -> None:
    """Samples of sketches, several of each."""
    evaluation = EvaluateGenerator(
        ["edge_agreement", "diversity_lpips"], "random", batch_size=4, every_n_steps=1, fit_samples=SAMPLES,
        per_condition=2,
    )  # fmt: skip
    data = tiny.faces(pairs="sketch", condition_size=32, num_val=9, batch_size=2)
    tiny.trainer(folder, 1, evaluation, **arguments).fit(ConditionPainter(), data)


def results(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted((folder / "evaluations").iterdir())]


def one_rank(folder: Path) -> None:
    torch.set_num_threads(1)
    read: list[int] = []
    fitted(folder / "run", read, devices=2, strategy="ddp")
    (folder / f"{os.environ['RANK']}.json").write_text(json.dumps(read))
    searched(folder / "searched", devices=2, strategy="ddp")
    conditioned(folder / "conditioned", devices=2, strategy="ddp")
    METRICS["together"] = Together
    evaluation = EvaluateGenerator(
        ["together"], "random", batch_size=4, every_n_steps=1, fit_samples=SAMPLES, labels="uniform",  # type: ignore[list-item]
    )  # fmt: skip
    data = PairedFaces(image_size=16, batch_size=2, num_images=12, num_val=0)
    trainer = tiny.trainer(folder / "paired", 1, evaluation, devices=2, strategy="ddp")
    trainer.fit(ClassPainter(), data)
    on_two_machines(folder, trainer)


def on_two_machines(folder: Path, trainer: Trainer) -> None:
    """Let ranks of two machines choose networks where the first alone has the published weights; none has a network."""
    rank = os.environ["RANK"]
    os.environ |= {"TORCH_HOME": str(folder / f"cache{rank}"), "no_proxy": "*"}
    weight_files.URLS["inception"] = "http://127.0.0.1:9/inception-00000000.pth"
    cache = folder / "cache0" / "hub" / "checkpoints"
    cache.mkdir(parents=True, exist_ok=True)
    (cache / "inception-00000000.pth").touch()
    machine: Any = SimpleNamespace(
        default_root_dir=folder, strategy=trainer.strategy, local_rank=0, world_size=trainer.world_size
    )
    asked = Requests(None, "auto", None, None, None, "wend")
    (folder / f"features{rank}").write_text(features_decided(asked, ["frechet"], machine).features)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ranks")
    run_ranks(__file__, folder, timeout=200)
    return folder


@pytest.mark.filterwarnings("ignore:intra_")
def test_every_evaluation_is_that_of_one_process(folder: Path, tmp_path: Path):
    fitted(tmp_path, [])
    alone, together = results(tmp_path), results(folder / "run")
    assert len(alone) == len(together) == 2
    assert alone[1]["values"] == alone[0]["values"]
    assert together[1]["metrics"] == together[0]["metrics"]
    assert KEEP_BEST in alone[0]["values"]
    assert together[0]["values"].keys() == alone[0]["values"].keys()
    for name, value in alone[0]["values"].items():
        rel = 5e-3 if name == "path_dist_random_wend" else 1e-4  # 1e-8 divides the rounding of another batch size
        assert together[0]["values"][name] == (value and pytest.approx(value, rel=rel, abs=1e-6)), name
    for name, part in alone[0]["metrics"].items():
        assert together[0]["metrics"][name]["settings"] == part["settings"]

    [strip] = (folder / "run" / "strips").iterdir()
    ours, expected = (np.asarray(Image.open(path)).astype(int) for path in (strip, tmp_path / "strips" / strip.name))
    assert np.abs(ours - expected).max() <= 1  # another batch size, another rounding


def test_a_search_is_that_of_one_process(folder: Path, tmp_path: Path):
    searched(tmp_path)
    alone, together = (
        json.loads((path / "searches" / "noise" / "search.json").read_text())
        for path in (tmp_path, folder / "searched")
    )
    assert together["seeds"] == [0, 1]
    assert len(list((folder / "searched" / "searches" / "measured").iterdir())) == 4
    for ours, expected in zip(together["rows"], alone["rows"], strict=True):
        assert ours["options"] == expected["options"]
        for seed in ("0", "1"):
            assert ours["values"][seed] == pytest.approx(expected["values"][seed], rel=1e-4)
            assert ours["records"][seed] == expected["records"][seed]


def test_conditions_and_true_images_are_those_of_one_process(folder: Path, tmp_path: Path):
    conditioned(tmp_path)
    [alone], [together] = results(tmp_path), results(folder / "conditioned")
    for name, part in alone["metrics"].items():
        assert together["metrics"][name]["settings"] == part["settings"]
        assert together["metrics"][name]["values"] == pytest.approx(part["values"], rel=1e-5)
    assert alone["metrics"]["edge_agreement"]["settings"]["n_real"] == 6
    assert 0 < alone["values"]["edge_f1"] != alone["values"]["edge_f1_true_images"]
    assert alone["values"]["diversity_dist_random"] > 0


def test_ranks_take_networks_that_all_machines_have(folder: Path):
    assert [(folder / f"features{rank}").read_text() for rank in range(2)] == ["efficientnet_lite0"] * 2


def test_ranks_share_the_reference_and_read_it_once(folder: Path):
    read = [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]
    assert read == [list(range(0, REFERENCE, 2)), list(range(1, REFERENCE, 2))]


def test_each_sample_comes_with_its_condition_and_its_true_image_on_every_rank(folder: Path):
    [result] = results(folder / "paired")
    expected = [[number % CLASSES, number, number % CLASSES, number] for number in range(SAMPLES)]
    assert result["metrics"]["together"]["details"]["seen"] == expected
    assert result["values"]["together"] == SAMPLES


if __name__ == "__main__":
    one_rank(Path(sys.argv[1]))
