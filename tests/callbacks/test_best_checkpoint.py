"""``checkpoints/best.ckpt``, and the run that stops where nothing becomes better."""

import errno
import math
import os
import threading
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from linear_generator import LinearGenerator

from tenshot.callbacks import EMA, EvaluateGenerator, StepCheckpoint
from tenshot.checkpoints.runs import newest_checkpoint
from tenshot.datamodules import FewShot
from tenshot.errors import InputError
from tenshot.metrics import FrechetDistance
from tenshot.run import atomic_io


def fit(folder: Path, shots: Path, evaluation: EvaluateGenerator, steps: int, resume: bool = False) -> None:
    callbacks: list[Any] = [StepCheckpoint(every_n_steps=2, keep=9), evaluation]
    path = folder / "checkpoints" / "step=00000002.ckpt" if resume else None
    data = FewShot(str(shots), image_size=16, batch_size=2)
    tiny.trainer(folder, steps, *callbacks, ema=EMA(0.5)).fit(LinearGenerator(noise=0.1), data, ckpt_path=path)


def during_fit(**options: Any) -> EvaluateGenerator:
    return EvaluateGenerator(["pairwise_lpips"], "random", every_n_steps=2, fit_samples=3, **options)


def test_the_best_checkpoint_is_kept_also_over_a_restart(tmp_path: Path, shots: Path, monkeypatch: pytest.MonkeyPatch):
    from tenshot.metrics import PairwiseLPIPS

    evaluate, found = PairwiseLPIPS.evaluate, iter([5.0, 7.0, 6.0, 6.5, 8.0, 1.0])

    def staged(self: PairwiseLPIPS) -> Any:
        report = evaluate(self)
        report.values["pairwise_dist_random"] = next(found)
        return report

    monkeypatch.setattr(PairwiseLPIPS, "evaluate", staged)

    def best() -> int:
        return torch.load(tmp_path / "checkpoints" / "best.ckpt", weights_only=True)["global_step"]

    def evaluation() -> EvaluateGenerator:
        return during_fit(keep_best="pairwise_dist_random")

    fit(tmp_path, shots, evaluation(), steps=2)
    assert best() == 2
    fit(tmp_path, shots, evaluation(), steps=4, resume=True)  # 7 > 5
    assert best() == 4
    (tmp_path / "checkpoints" / "step=00000004.ckpt").rename(tmp_path / "checkpoints" / "step=00000002.ckpt")
    fit(tmp_path, shots, evaluation(), steps=8, resume=True)  # 6 and 6.5 < 7
    assert best() == 4
    (tmp_path / "checkpoints" / "step=00000008.ckpt").rename(tmp_path / "checkpoints" / "step=00000002.ckpt")
    fit(tmp_path, shots, evaluation(), steps=10, resume=True)
    assert best() == 10
    (tmp_path / "checkpoints" / "best.ckpt").unlink()  # set aside with an abandoned branch
    fit(tmp_path, shots, evaluation(), steps=10, resume=True)  # 1 < 8
    assert best() == 10


def test_it_stops_where_values_become_worse_also_over_a_restart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    evaluate, found = FrechetDistance.evaluate, iter([4.0, 3.0, 3.0, 3.2, math.nan, 3.5, 2.0, 2.5, 9.0, 9.0])

    def staged(self: FrechetDistance) -> Any:
        report = evaluate(self)
        report.values["fd_random"] = next(found)
        return report

    monkeypatch.setattr(FrechetDistance, "evaluate", staged)

    def reached(steps: int, patience: int, resume: bool = False) -> int:
        evaluation = EvaluateGenerator(
            ["frechet"], "random", every_n_steps=1, fit_samples=2, reference=3, keep_best="fd_random", patience=patience
        )
        trainer = tiny.trainer(tmp_path, steps, evaluation, StepCheckpoint(1))
        trainer.fit(
            LinearGenerator(noise=0.1),
            tiny.faces(shots=3),
            ckpt_path=str(newest_checkpoint(tmp_path)) if resume else None,
        )
        return trainer.global_step

    assert reached(5, patience=2) == 5  # 3 again is as good, 3.2 is worse, NaN does not count
    best = torch.load(tmp_path / "checkpoints" / "best.ckpt", weights_only=True)
    assert best["global_step"] == 3  # the later of two that are equal
    assert reached(10, patience=2, resume=True) == 6  # 3.5: the second that is worse
    assert reached(10, patience=2, resume=True) == 9  # 2 is better, 2.5 and 9 are worse
    assert str(newest_checkpoint(tmp_path)).endswith("step=00000009.ckpt")


def test_the_best_is_of_the_value_that_counts_now():
    evaluation = EvaluateGenerator(every_n_steps=1, keep_best="fid")
    of_label = EvaluateGenerator(every_n_steps=1, keep_best="fid", label=3)
    for state, best in (({"best": 3.0}, 3.0), ({"best": 3.0, "keep_best": "kid"}, None), (of_label.state_dict(), None)):
        evaluation.load_state_dict(state | {"best": 3.0})
        assert evaluation.state_dict()["best"] == best
        assert evaluation.state_dict()["keep_best"] == "fid"
    of_label.load_state_dict({"best": 3.0, "keep_best": "fid"})
    assert of_label.state_dict()["best"] is None


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (
            "fid",
            r"'fid' is not computed: choose one of fd_random, .*pairwise_dist_random, or other --ev.* than random$",
        ),
        ("fd_rnadom", r"'fd_rnadom' is not computed \(did you mean 'fd_random'\?\): choose one of fd_random"),
        ("intra_dist_random_std", r"'intra_dist_random_std' has no better or worse: choose one of fd_random"),
    ],
)
def test_a_value_to_keep_the_best_by_is_checked_before_the_first_step(tmp_path: Path, value: str, message: str):
    module = tiny.ddpm()
    before = {name: weight.clone() for name, weight in module.state_dict().items()}
    metrics: Any = ["frechet", "intra_lpips", "pairwise_lpips"]
    evaluation = EvaluateGenerator(metrics, "random", every_n_steps=5, keep_best=value, reference=4)
    with pytest.raises(InputError, match=f"--evaluate.keep_best {message}"):
        tiny.trainer(tmp_path, 3, evaluation).fit(module, tiny.faces(shots=3))
    tiny.assert_same(module.state_dict(), before)


def test_less_is_better_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    evaluate, found = FrechetDistance.evaluate, iter([3.0, 4.0, 2.0])

    def staged(self: FrechetDistance) -> Any:
        report = evaluate(self)
        report.values["fd_random"] = next(found)
        return report

    monkeypatch.setattr(FrechetDistance, "evaluate", staged)
    kept = []
    monkeypatch.setattr(
        "lightning.pytorch.Trainer.save_checkpoint", lambda self, path, **options: kept.append(self.global_step)
    )
    evaluation = EvaluateGenerator(
        ["frechet"], "random", every_n_steps=1, fit_samples=2, reference=3, keep_best="fd_random"
    )
    tiny.trainer(tmp_path, 3, evaluation).fit(tiny.ddpm(), tiny.faces(shots=3))
    assert kept == [1, 3]


@pytest.mark.parametrize("full", [False, True])
def test_the_best_is_written_beside_training_which_can_do_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, full: bool
):
    def written(content: Any, path: Path) -> None:
        threads.append(threading.current_thread())
        if full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(content, path)

    threads: list[threading.Thread] = []
    write = atomic_io.written
    monkeypatch.setattr(atomic_io, "written", written)
    caplog.set_level("INFO")
    evaluation = EvaluateGenerator(
        ["frechet"], "random", every_n_steps=2, fit_samples=2, reference=3, keep_best="fd_random"
    )
    tiny.trainer(tmp_path, 2, evaluation).fit(LinearGenerator(noise=0.1), tiny.faces(shots=3))
    [thread] = threads
    assert thread is not threading.main_thread()
    assert not thread.is_alive()
    best = tmp_path / "checkpoints" / "best.ckpt"
    if full:
        assert f"training goes on without: {best}: could not be written (No space left on device)" in caplog.text
        assert not list(best.parent.iterdir())
    else:
        assert "step 2: best fd_random so far" in caplog.text
        assert torch.load(best, weights_only=True)["global_step"] == 2
