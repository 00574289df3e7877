"""The warning that copying begins: at the evaluation at which it does, and once a run."""

import math
import warnings
from pathlib import Path
from typing import Any

import pytest
import tiny
from linear_generator import LinearGenerator

from tenshot.callbacks import EvaluateGenerator, StepCheckpoint
from tenshot.callbacks.copying_watch import CopyingWatch
from tenshot.checkpoints.runs import checkpoint_path
from tenshot.metrics import Nearness

STARTS = "copying of the training images begins"


def result(step: int, **metrics: tuple[float | None, dict[str, int]]) -> dict[str, Any]:
    """Of an evaluation: values and numbers of images by metric."""
    return {"step": step, "metrics": {
        name: {"values": {f"{name}_x": value, "other": 9.0}, "settings": settings}
        for name, (value, settings) in metrics.items()
    }}  # fmt: skip


TEN, THOUSAND = {"n_real": 10, "n_generated": 100}, {"n_generated": 100, "n_shots": 10, "n_reference": 1000}


def test_what_true_images_hardly_exceed_shows_copies():
    watch = CopyingWatch()
    for step, metrics in enumerate((
        {"nearness": (0.76, TEN)}, {"near_copies": (0.06, THOUSAND)}, {"nearness": (None, TEN)}, {"frechet": (9.0, {})},
        {"nearness": (0.9, TEN | {"n_real": 4})}, {"near_copies": (1.0, THOUSAND | {"n_reference": 99})},
        {"mine": (9.0, {})},
    )):  # fmt: skip
        assert watch.began(result(step, **metrics)) is None, metrics
    both = result(9, nearness=(0.77, TEN), near_copies=(0.07, THOUSAND))
    assert watch.began(both) == (
        "nearness_x is 0.77, new images of the domain hardly exceed 0.765; "
        "near_copies_x is 0.07, new images of the domain hardly exceed 0.065"
    )
    assert watch.began(both) is None


def test_nearness_that_was_high_from_the_start_shows_nothing_until_it_has_risen():
    watch = CopyingWatch()
    assert watch.began(result(1, nearness=(0.88, TEN))) is None
    assert watch.began(result(2, nearness=(0.9, TEN))) is None
    assert watch.began(result(3, nearness=(0.6, TEN))) is None
    resumed = CopyingWatch()
    resumed.load_state_dict(watch.state_dict())
    for each in (watch, resumed):
        assert (each.began(result(4, nearness=(0.8, TEN))) or "").startswith("nearness_x is 0.8,")
    assert CopyingWatch().began(result(1, nearness=(0.9, TEN), near_copies=(0.07, THOUSAND))) == (
        "near_copies_x is 0.07, new images of the domain hardly exceed 0.065"
    )


def fit(
    folder: Path, monkeypatch: pytest.MonkeyPatch, values: list[float], first: int = 1, **options: Any
) -> list[str]:
    """Train for as many steps as there are values of nearness, from the checkpoint before ``first`` on.

    Returns:
        The warnings that copying begins.
    """
    evaluate, found = Nearness.evaluate, iter(values)

    def staged(self: Nearness) -> Any:
        report, value = evaluate(self), next(found)
        report.values.update({"nearness_random": value, "nearness_gap_random": abs(value - 0.5)})
        return report

    evaluation = EvaluateGenerator(["nearness"], "random", every_n_steps=1, fit_samples=20, **options)
    trainer = tiny.trainer(folder, first - 1 + len(values), evaluation, StepCheckpoint(1, keep=9))
    resumed = str(checkpoint_path(folder, first - 1)) if first > 1 else None
    with monkeypatch.context() as patch, warnings.catch_warnings(record=True, action="always") as caught:
        patch.setattr(Nearness, "evaluate", staged)
        trainer.fit(LinearGenerator(noise=0.1), tiny.faces(shots=10), ckpt_path=resumed)
    return [str(one.message) for one in caught if STARTS in str(one.message)]


def test_it_warns_once_also_over_a_restart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    by = {"keep_best": "nearness_gap_random"}
    [line] = fit(tmp_path, monkeypatch, [0.3, 0.55, 0.78, 0.85, math.nan, 0.95], **by)
    assert line == (
        "step 4: copying of the training images begins: nearness_random is 0.85, new images of the domain hardly "
        "exceed 0.789: checkpoints/best.ckpt is the best so far by nearness_gap_random, of step 2; "
        "--evaluate.patience 3 would stop training"
    )
    assert not fit(tmp_path, monkeypatch, [0.95, 0.6, 0.9], first=5, **by)  # the checkpoint of step 4 knows of it
    for later in range(3, 8):
        checkpoint_path(tmp_path, later).unlink()
    [line] = fit(tmp_path, monkeypatch, [0.6, 0.81, 0.9], first=3, **by, patience=3)  # from before it, another way
    assert line.startswith(f"step 4: {STARTS}: nearness_random is 0.81")
    assert line.endswith("best so far by nearness_gap_random, of step 2")


def test_who_keeps_no_step_is_told_how(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    [line] = fit(tmp_path, monkeypatch, [0.3, 0.95])
    assert "keep_best nearness_gap_… keeps an earlier step" in line
