"""Where float32 products may be rounded: read from PyTorch's own switches, in the middle of what they are for."""

import logging
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import tiny
import torch

from tenshot.callbacks import TF32
from tenshot.lightning_modules import DDPM
from tenshot.models.features import RandomFeatures
from tenshot.models.float32 import float32_products

EVALUATED = ["--evaluate.features", "random", "--evaluate.reference", "4", "--evaluate.metrics", "[frechet]"]


def in_force() -> tuple[str, ...]:
    """Of matrix products and convolutions by the newer interface, then by the older, which raises where they differ."""
    old = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    assert old[0] == (torch.get_float32_matmul_precision() != "highest")
    new = torch.backends.cuda.matmul.fp32_precision, torch.backends.cudnn.conv.fp32_precision
    assert old == tuple(precision == "tf32" for precision in new)
    return tuple("tf32" if precision == "tf32" else "ieee" for precision in new)


ROUNDED, FULL = ("tf32", "tf32"), ("ieee", "ieee")


@pytest.mark.parametrize("rounds", [True, False])
def test_training_steps_round_and_nothing_else_does(
    tenshot: tiny.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rounds: bool
):
    seen: dict[str, set[tuple[str, ...]]] = {}

    def watch(kind: type, name: str, what: Callable[[Any], str]) -> None:
        original = getattr(kind, name)

        def watched(self: Any, *arguments: Any, **names: Any) -> Any:
            seen.setdefault(what(self), set()).add(in_force())
            return original(self, *arguments, **names)

        monkeypatch.setattr(kind, name, watched)

    def stage(module: DDPM) -> str:
        return str(module.trainer.state.stage.value)

    watch(DDPM, "condition_of", lambda module: f"{stage(module)} step")
    watch(DDPM, "sample_from", lambda module: f"drawn in {stage(module)}")
    watch(DDPM, "on_before_optimizer_step", lambda module: "backward")
    watch(RandomFeatures, "forward", lambda network: "metric")
    before = in_force()
    changes = {
        "trainer": {"max_steps": 2, "val_check_interval": 1},
        "data": {"init_args": {"num_val": 2}},
        "grid": {"every_n_steps": 1, "count": 2},
        "evaluate": {"every_n_steps": 1, "fit_samples": 4},
    }
    words = ["--config", tiny.config_file(tmp_path, changes), "--trainer.default_root_dir", str(tmp_path / "run")]
    fit = tenshot("fit", *words, *EVALUATED, *([] if rounds else ["--tf32", "false"]))
    assert fit.status == 0, fit.err
    assert f"tf32: {str(rounds).lower()}\n" in (tmp_path / "run" / "config.yaml").read_text()
    expected = {name: {FULL} for name in ("validate step", "drawn in train", "metric")}
    assert seen == expected | {name: {ROUNDED if rounds else FULL} for name in ("train step", "backward")}
    if rounds:  # else nothing differs
        seen.clear()
        for command in (["test", *EVALUATED, "--evaluate.samples", "4"], ["predict", "--images.count", "1"]):
            outcome = tenshot(*command, "--ckpt_path", tmp_path / "run")
            assert outcome.status == 0, outcome.err
        assert seen == {name: {FULL} for name in ("metric", "drawn in test", "drawn in predict")}
    assert in_force() == before


def test_a_step_that_fails_leaves_pytorch_as_it_was(tenshot: tiny.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def fails(*arguments: Any) -> None:
        raise KeyError("a bug")

    monkeypatch.setattr(DDPM, "condition_of", fails)
    before = in_force()
    with pytest.raises(KeyError):
        tenshot("fit", "--config", tiny.config_file(tmp_path), "--trainer.default_root_dir", tmp_path / "run")
    assert in_force() == before


@pytest.mark.parametrize("kept", ["highest", "high", "medium"])
@pytest.mark.parametrize("tf32", [True, False])
def test_what_the_user_had_set_comes_back(kept: str, tf32: bool):
    mkldnn = torch.backends.mkldnn
    before = mkldnn.matmul.fp32_precision
    torch.set_float32_matmul_precision(kept)
    try:
        of_cpus = mkldnn.matmul.fp32_precision
        with float32_products(tf32):
            assert in_force() == (ROUNDED if tf32 else FULL)
            assert mkldnn.matmul.fp32_precision == mkldnn.conv.fp32_precision == "ieee"
        assert torch.get_float32_matmul_precision() == kept
        assert mkldnn.matmul.fp32_precision == of_cpus
    finally:
        torch.set_float32_matmul_precision("highest")
        mkldnn.matmul.fp32_precision = before


def test_where_only_the_newer_interface_was_set_the_older_can_be_read_again():
    torch.backends.cuda.matmul.fp32_precision = "tf32"
    try:
        with pytest.raises(RuntimeError):
            torch.get_float32_matmul_precision()
        with float32_products(tf32=False):
            assert in_force() == FULL
        assert torch.backends.cuda.matmul.fp32_precision == "tf32"
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision("highest")


@pytest.mark.parametrize("training", [True, False])
def test_a_line_says_so_on_gpus_that_have_it(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, training: bool
):
    caplog.set_level(logging.INFO, logger="lightning.pytorch.utilities.rank_zero")
    for device, capability, times in (("cuda", (9, 0), 1), ("cuda", (7, 0), 0), ("cpu", (9, 0), 0)):
        caplog.clear()
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _, has=capability: has)
        callback = TF32(training)
        trainer: Any = SimpleNamespace(strategy=SimpleNamespace(root_device=torch.device(device)))
        callback.setup(trainer, tiny.ddpm(), "fit")
        callback.teardown(trainer, tiny.ddpm(), "fit")
        word = "TF32 (--tf32 false: full float32)" if training else "full float32 (--tf32 true: TF32)"
        assert caplog.text.count(f"of training steps: {word}") == times
