"""A GAN that goes on in another precision: its weights and moments stay, and each player's loss scale is right."""

import itertools
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from lightning.pytorch import Callback
from lightning.pytorch.plugins import MixedPrecision

from tenshot.callbacks import EMA, Resumption, StepCheckpoint
from tenshot.lightning_modules import StyleGAN2

PRECISIONS = ["32-true", "bf16-mixed", "16-mixed"]
DTYPES = {"32-true": torch.float32, "bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}


class Watch(Callback):
    """The weights and moments that training goes on with, and what the discriminator computes in."""

    def __init__(self) -> None:
        self.state: dict[str, Any] = {}
        self.moments: list[Any] = []
        self.dtypes: set[torch.dtype] = set()
        self.scales: dict[str, float] = {}

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self.state = {name: value.clone() for name, value in pl_module.state_dict().items()}
        first = [optimizer.state[optimizer.param_groups[0]["params"][0]] for optimizer in trainer.optimizers]
        self.moments = [{name: value.clone() for name, value in state.items()} for state in first]
        self.scales = {name: scaler.get_scale() for name, scaler in pl_module._scalers.items()}
        layer = pl_module.generator.layers[-1]  # of the highest resolution
        layer.register_forward_hook(lambda module, inputs, output: self.dtypes.add(output.dtype))


def fit(folder: Path, steps: int, precision: str, resume: Path | None = None) -> tuple[dict[str, Any], Watch]:
    plugins = []
    if precision != "32-true":
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10) if precision == "16-mixed" else None
        plugins = [MixedPrecision(precision, "cpu", scaler)]  # type: ignore[arg-type]
    watch, module = Watch(), tiny.gan(StyleGAN2)
    trainer = tiny.trainer(folder, steps, Resumption(), StepCheckpoint(100, 9), watch, ema=EMA(0.9), plugins=plugins)
    trainer.fit(module, tiny.faces(image_size=32), ckpt_path=resume)
    return torch.load(folder / "checkpoints" / f"step={steps:08d}.ckpt", weights_only=True), watch


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two steps in each precision."""
    folder = tmp_path_factory.mktemp("begun")
    for precision in PRECISIONS:
        fit(folder / precision, 2, precision)
    return folder


@pytest.mark.parametrize(("before", "after"), itertools.permutations(PRECISIONS, 2))
def test_the_state_goes_on_and_the_new_precision_takes_effect(begun: Path, tmp_path: Path, before: str, after: str):
    path = begun / before / "checkpoints" / "step=00000002.ckpt"
    saved = torch.load(path, weights_only=True)
    resumed, seen = fit(tmp_path, 3, after, path)

    tiny.assert_same(seen.state, saved["state_dict"])
    for moments, optimizer in zip(seen.moments, saved["optimizer_states"], strict=True):
        tiny.assert_same(moments, optimizer["state"][0])
        assert moments["exp_avg_sq"].abs().max() > 0
    assert seen.dtypes == {DTYPES[after]}
    assert resumed["global_step"] == 3
    assert all(value.isfinite().all() for value in resumed["state_dict"].values())
    assert resumed["state_dict"].keys() == saved["state_dict"].keys()
    assert {v.dtype for v in resumed["state_dict"].values()} == {v.dtype for v in saved["state_dict"].values()}
    assert set(seen.scales) == ({"generator", "discriminator"} if after == "16-mixed" else set())
    assert any(not torch.equal(value, saved["state_dict"][name]) for name, value in resumed["state_dict"].items())
