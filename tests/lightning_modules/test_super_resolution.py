"""A super-resolution stage, against plain super-resolution by hand."""

import warnings
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
import torch.nn.functional as F
from lightning.pytorch import Trainer
from tiny_stages import NOISY, SIMPLE, load, saved, small, stage
from torch import Tensor

from tenshot.callbacks import StepCheckpoint
from tenshot.checkpoints import UNET, read
from tenshot.diffusion import Augmentation, Blur, DiffusionConfig, GaussianDiffusion, LowResNoise
from tenshot.distributed.seeding import position_seed
from tenshot.lightning_modules import SuperResolution
from tenshot.models import UNet

SMALL = tiny.unet_config(**tiny.SMALL)


def fit(folder: Path, module: SuperResolution, steps: int = 1, data: Any = None, **arguments: Any) -> Trainer:
    trainer = tiny.trainer(folder, steps, *arguments.pop("callbacks", ()), **arguments)
    trainer.fit(module, data or tiny.faces())
    return trainer


def step_by_hand(network: UNet, data: Any) -> float:
    """DDPM's simple loss of the first step, of StepSeed (seed 3), with the means of 2 x 2 pixels enlarged."""
    batch = data.on_after_batch_transfer(next(iter(data.train_dataloader())), 0)
    torch.manual_seed(position_seed([3, 0, 0, 0, 0]))
    x = batch["image"]
    t = torch.randint(1000, (len(x),))
    noise = torch.randn_like(x)
    x_t = GaussianDiffusion(DiffusionConfig()).q_sample(x, t, noise)
    low_res = F.interpolate(F.avg_pool2d(x, 2), scale_factor=2.0, mode="bilinear", align_corners=False)
    with torch.no_grad():
        return (network(x_t, t, low_res=low_res) - noise).square().mean().item()


def test_without_corruption_it_is_plain_super_resolution(tmp_path: Path):
    module, data = tiny.randomised(stage(**SIMPLE, optimizer=tiny.adam(0.0))), tiny.faces()
    assert not module.unet.config.low_res_timestep
    expected = step_by_hand(module.unet, data)
    assert fit(tmp_path, module, data=data).callback_metrics["train/loss"].item() == pytest.approx(expected, rel=1e-5)


def test_with_s_0_a_stage_that_knows_s_is_one_that_does_not_to_the_last_bit(tmp_path: Path):
    """From weights without s: the loss at s = 0 and images for every s, until it is trained; then s matters."""
    plain = tiny.randomised(stage())
    module = stage(init_from=saved(tmp_path, plain), augmentation=NOISY)
    assert module.low_res_size == 8
    assert module.unet.config.low_res_timestep
    seeds, z = torch.arange(3), small()
    clean = plain.sample(seeds, {"low_res": z})
    assert torch.equal(module.sample(seeds, {"low_res": z, "s": torch.zeros(3, dtype=torch.int64)}), clean)
    for s in (1, 60):
        noisy = {"noisy_low_res": z, "s": torch.full((3,), s)}
        assert torch.equal(module.sample(seeds, noisy), clean)
    fit(tmp_path / "run", module, 3)
    moved = [module.sample(seeds, {"noisy_low_res": z, "s": torch.full((3,), s)}) for s in (1, 60)]
    assert (moved[0] - moved[1]).abs().max() > 1e-4


def test_a_fresh_network_makes_nothing_of_s():
    module = stage(augmentation=NOISY)
    module.configure_model()
    assert module.unet.s_embedding is not None
    assert not module.unet.s_embedding(torch.arange(5)).any()


@pytest.mark.parametrize("augmentation", [NOISY, Augmentation(NOISY.noise, Blur())])
def test_fit_moves_every_weight_the_embedding_of_s_too(tmp_path: Path, augmentation: Augmentation):
    module = tiny.randomised(stage(augmentation=augmentation))
    before = {name: value.clone() for name, value in module.state_dict().items()}
    trainer = fit(tmp_path, module, 4, log_every_n_steps=4)
    after = module.state_dict()
    assert "unet.s_embedding.fc1.weight" in after
    assert all(name.startswith("unet.") for name in after)
    assert {name for name in after if not torch.equal(before[name], after[name])} == set(after)
    by_s = [name for name in trainer.callback_metrics if name.startswith("train/mse_s_q")]
    assert 2 <= len(by_s) <= 4
    overall = [value for name, value in trainer.callback_metrics.items() if name.startswith("train/mse_q")]
    assert min(overall) > 0.5


def test_losses_are_binned_by_s(tmp_path: Path):
    """One s alone: the bin that it is in has the whole mean."""
    noise = LowResNoise(100, s_min=30, s_max=69)
    module = stage(**SIMPLE, augmentation=Augmentation(noise), optimizer=tiny.adam(0.0))
    step = module.denoiser.predict(
        torch.zeros(4, 3, 16, 16), torch.arange(4), torch.randn(4, 3, 16, 16),
        {"low_res": torch.zeros(4, 3, 16, 16), "s": torch.tensor([30, 39, 40, 69])},
    )  # fmt: skip
    mse = step.noise.square().mean((1, 2, 3))  # a fresh network predicts 0
    module.loss_terms(step)
    bins = {name: value.item() for name, value in module.s_bins.pop().items()}
    expected = {"mse_s_q0": mse[:2].mean().item(), "mse_s_q1": mse[2].item(), "mse_s_q3": mse[3].item()}
    assert bins == pytest.approx(expected)


# Whether the condition is used


def validated(folder: Path, module: SuperResolution, **data: Any) -> dict[str, float]:
    trainer = tiny.trainer(folder, 1)
    [values] = trainer.validate(module, tiny.faces(**{"num_val": 4} | data), verbose=False)
    return dict(values)


def test_the_gap_is_the_loss_with_the_image_of_another_less_that_with_its_own(tmp_path: Path):
    module, data = tiny.randomised(stage(**SIMPLE)), tiny.faces(num_val=4)
    x = data.val_source.read(range(4))["image"] / 127.5 - 1  # type: ignore[union-attr]
    torch.manual_seed(position_seed([3, 1, 0, 0, 0]))
    t, noise = torch.randint(1000, (4,)), torch.randn_like(x)
    x_t = GaussianDiffusion(DiffusionConfig()).q_sample(x, t, noise)
    low_res = F.interpolate(F.avg_pool2d(x, 2), scale_factor=2.0, mode="bilinear", align_corners=False)
    with torch.no_grad():
        own, others = (
            (module.unet(x_t, t, low_res=z) - noise).square().mean().item() for z in (low_res, low_res[[3, 0, 1, 2]])
        )
    values = validated(tmp_path, module)
    assert values["val/loss"] == pytest.approx(own, rel=1e-5)
    assert values["val/condition_gap"] == pytest.approx(others - own, rel=1e-2)
    alone = validated(tmp_path, module, batch_size=1)
    assert abs(alone["val/condition_gap"]) > 1e-4  # each image against itself, upside down


@pytest.mark.parametrize(("blind", "step", "warns"), [(True, 500, True), (True, 499, False), (False, 500, False)])
def test_a_stage_that_ignores_its_condition_is_warned_of_once(
    tmp_path: Path, recwarn: pytest.WarningsRecorder, blind: bool, step: int, warns: bool
):
    warnings.simplefilter("always")  # else the same line is kept once, however often it is said
    module = tiny.randomised(stage(**SIMPLE))

    def network(x_t: Tensor, t: Tensor, low_res: Tensor) -> Tensor:
        """Takes the enlarged image for the clean one, or looks at nothing."""
        signal, std = module.diffusion.signal_and_noise(t, x_t)
        return torch.zeros_like(x_t) if blind else (x_t - signal * low_res) / std

    module.denoiser.network = network
    module.val_gap.step = step
    values = validated(tmp_path, module)
    validated(tmp_path, module)
    assert (values["val/condition_gap"] == 0) == blind
    assert sum("condition ignored" in str(each.message) for each in recwarn) == warns


# Checkpoints


def test_a_stage_that_was_stopped_and_resumed_ends_in_the_same_bits(tmp_path: Path):
    def run(folder: str, steps: int, resume: bool = False) -> dict[str, Any]:
        path = max((tmp_path / folder / "checkpoints").glob("*.ckpt")) if resume else None
        module = tiny.randomised(stage(augmentation=Augmentation(NOISY.noise, Blur())))
        trainer = tiny.trainer(tmp_path / folder, steps, StepCheckpoint(every_n_steps=100))
        trainer.fit(module, tiny.faces(), ckpt_path=path)
        return torch.load(tmp_path / folder / "checkpoints" / f"step={steps:08d}.ckpt", weights_only=True)

    whole = run("whole", 3)
    run("halves", 2)
    torch.manual_seed(12345)
    resumed = run("halves", 3, resume=True)
    for part in ("state_dict", "optimizer_states", "ema", "timestep_bins", "s_bins", "tenshot"):
        tiny.assert_same(resumed[part], whole[part], part)
    assert whole["s_bins"]["mse_s"].sum() > 0
    assert whole["tenshot"]["stage"]["augmentation"]["noise"]["s_min"] == 0


@pytest.mark.parametrize("old", [False, True])
def test_a_run_that_has_warned_does_not_warn_again_when_it_is_resumed(
    tmp_path: Path, recwarn: pytest.WarningsRecorder, monkeypatch: pytest.MonkeyPatch, old: bool
):
    """Unless the checkpoint is of a time when that was not kept."""
    for name, value in {"condition_gap.LEARNT_BY": 1, "super_resolution.LEAST_GAP": 1e9}.items():
        monkeypatch.setattr(f"tenshot.lightning_modules.{name}", value)

    def run(steps: int, resumed: Path | None) -> int:
        recwarn.clear()
        trainer = tiny.trainer(tmp_path, steps, StepCheckpoint(), val_check_interval=1, check_val_every_n_epoch=None)
        trainer.fit(stage(unet=SMALL), tiny.faces(num_val=2), ckpt_path=resumed)
        return sum("condition ignored" in str(each.message) for each in recwarn)

    assert run(2, None) == 1
    path = tmp_path / "checkpoints" / "step=00000002.ckpt"
    if old:
        checkpoint = torch.load(path, weights_only=True)
        del checkpoint["condition_warned"]
        torch.save(checkpoint, path)
    assert run(3, path) == old


def test_a_checkpoint_tells_all_that_drawing_from_it_takes(tmp_path: Path):
    module = tiny.randomised(
        stage(augmentation=Augmentation(LowResNoise(100, s_min=5, s_max=60)), downsample="bicubic")
    )
    again = stage(init_from=saved(tmp_path, module))
    assert (again.low_res_size, again.downsample, again.drawn_s) == (8, "bicubic", 5)
    assert again.stage == module.stage
    condition = {"low_res": small(2)}
    assert torch.equal(again.sample(torch.arange(2), condition), module.sample(torch.arange(2), condition))
    assert read(saved(tmp_path, module), UNET).method == "SuperResolution"


def test_the_range_of_s_is_that_of_the_checkpoint_that_is_drawn_from():
    module = stage(augmentation=Augmentation(LowResNoise(100)))
    load(module, stage(augmentation=Augmentation(LowResNoise(100, s_min=7))))
    assert module.drawn_s == 7
    other = stage(augmentation=Augmentation(LowResNoise(100)), augmentation_s=90)
    tiny.refusal(
        lambda: load(other, stage(augmentation=Augmentation(LowResNoise(100, s_max=50)))),
        "--model.augmentation_s is 90",
    )
