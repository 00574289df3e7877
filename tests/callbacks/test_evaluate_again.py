"""Evaluations during training: real images are shown once, results are those of a fresh evaluation."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import tiny
import torch
from linear_generator import LinearGenerator

from tenshot.callbacks import EvaluateGenerator
from tenshot.callbacks.metric_choice import OF_CONDITIONS
from tenshot.datamodules import SyntheticFaces
from tenshot.datamodules.batches import Batch, Source
from tenshot.metrics import METRICS

FEATURES = 496


class Counted:
    """A source that notes what is read of it."""

    def __init__(self, source: Source) -> None:
        self.source, self.read_so_far = source, list[int]()

    def __len__(self) -> int:
        return len(self.source)

    def read(self, indices: Sequence[int]) -> Batch:
        self.read_so_far += indices
        return self.source.read(indices)


def evaluated(folder: Path, every: int, monkeypatch: pytest.MonkeyPatch) -> tuple[dict, EvaluateGenerator, list]:
    """What the evaluation at step 4 found, and the references that were built."""
    built: list[Counted] = []
    reference = SyntheticFaces.reference

    def counted(self: SyntheticFaces, count: int) -> Counted:
        source = reference(self, count)
        assert source is not None
        built.append(Counted(source))
        return built[-1]

    with monkeypatch.context() as patch:
        patch.setattr(SyntheticFaces, "reference", counted)
        evaluation = EvaluateGenerator(
            [name for name in METRICS if not name.startswith(("path", "spatial", "consistency", *OF_CONDITIONS))],  # type: ignore[misc]
            "random",
            every_n_steps=every,
            fit_samples=10,
            reference=FEATURES + 5,  # so many that products take the place of rows
        )
        tiny.trainer(folder, 4, evaluation).fit(LinearGenerator(noise=0.1, lr=50.0), tiny.faces(shots=5))
    result = json.loads((folder / "evaluations" / "step=00000004.json").read_text())
    return result, evaluation, built


@pytest.mark.filterwarnings("ignore:intra_")
def test_real_images_are_shown_once_a_fit_and_results_are_those_of_a_fresh_evaluation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    again, evaluation, built = evaluated(tmp_path / "again", 2, monkeypatch)
    [source] = built
    assert sorted(source.read_so_far) == list(range(len(source)))
    fresh, _, _ = evaluated(tmp_path / "fresh", 4, monkeypatch)
    assert again["values"] == fresh["values"]
    assert again["metrics"] == fresh["metrics"]
    assert again["metrics"]["frechet"]["settings"]["n_real"] == len(source)
    assert again["metrics"]["nearest_lpips"]["settings"]["n_real"] == 5
    earlier = json.loads((tmp_path / "again" / "evaluations" / "step=00000002.json").read_text())
    assert earlier["values"] != again["values"]
    del source, built
    assert evaluation._shown is not None
    for metric in evaluation._shown.metrics.values():
        held = [getattr(metric, name) for name in metric._defaults]
        assert not any(state.numel() if isinstance(state, torch.Tensor) else state for state in held)
    assert not evaluation._shown.real
