"""What a super-resolution stage draws from, and what it refuses."""

from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
import torch.nn.functional as F
from tiny_stages import NOISY, load, saved, small, stage
from torch import Tensor

import tenshot.lightning_modules.sampler as sampler_file
from tenshot.diffusion import Augmentation, DiffusionConfig, GaussianDiffusion, LowResNoise
from tenshot.distributed.seeding import SeededNoise
from tenshot.lightning_modules import Sampler, SuperResolution


def test_an_image_depends_on_its_seed_its_low_resolution_image_and_its_s_alone():
    module = tiny.randomised(stage(augmentation=NOISY, sampler=Sampler("ddpm", "3")))
    seeds, z, s = torch.tensor([4, 9, 2, 7, 5]), small(5), torch.tensor([0, 20, 20, 50, 100])
    together = module.sample(seeds, {"low_res": z, "s": s})
    for rows in (torch.tensor([3]), torch.tensor([4, 1])):
        assert torch.equal(module.sample(seeds[rows], {"low_res": z[rows], "s": s[rows]}), together[rows])
    others = {"s": torch.tensor([0, 20, 20, 50, 99]), "low_res": small(5, seed=1)}
    for name, value in others.items():
        changed = module.sample(seeds, {"low_res": z, "s": s} | {name: value})
        assert not torch.equal(changed[4], together[4])
    assert together.shape == (5, 3, 16, 16)
    assert together.abs().max() <= 1


def test_truncated_is_non_truncated_with_the_same_noise_and_the_noise_of_x_is_not_that_of_z():
    module = tiny.randomised(stage(augmentation=NOISY))
    seeds, z, s = torch.arange(4), small(4), torch.full((4,), 37)
    alpha_bar = GaussianDiffusion(DiffusionConfig(100, "cosine")).alphas_cumprod[36]
    noise = SeededNoise(seeds, torch.device("cpu"), 1).normal(3, 8, 8)
    z_s = alpha_bar**0.5 * z + (1 - alpha_bar) ** 0.5 * noise
    truncated = module.sample(seeds, {"noisy_low_res": z_s, "s": s})
    torch.testing.assert_close(module.sample(seeds, {"low_res": z, "s": s}), truncated, atol=1e-5, rtol=0)
    x_t = SeededNoise(seeds, torch.device("cpu")).normal(3, 16, 16)
    assert abs(torch.corrcoef(torch.stack([x_t[:, :, :8, :8].flatten(), noise.flatten()]))[0, 1]) < 0.1


def test_z_is_enlarged_once_an_image_and_clamped(monkeypatch: pytest.MonkeyPatch):
    module = tiny.randomised(stage(sampler=Sampler("ddim", "10")))
    calls: list[Tensor] = []
    interpolate = F.interpolate
    monkeypatch.setattr(F, "interpolate", lambda x, *a, **k: (calls.append(x), interpolate(x, *a, **k))[1])
    module.sample(torch.arange(4), {"low_res": small(4) * 1.5})
    low_res = [x for x in calls if x.shape[1] == 3]
    assert len(low_res) == 1
    assert low_res[0].abs().max() == 1


def test_beginning_from_the_enlarged_image(monkeypatch: pytest.MonkeyPatch):
    module = tiny.randomised(stage(start_step=300, sampler=Sampler("ddim", "5")))
    begun: list[Any] = []
    draw = sampler_file.sample_ddim
    monkeypatch.setattr(
        sampler_file,
        "sample_ddim",
        lambda denoiser, x, *a, **k: (begun.append((denoiser, x)), draw(denoiser, x, *a, **k))[1],
    )
    seeds, z = torch.arange(4), small(4)
    module.sample(seeds, {"low_res": z})
    [(denoiser, x)] = begun
    alpha_bar = GaussianDiffusion(DiffusionConfig()).alphas_cumprod[299]  # after 300 steps
    noise = SeededNoise(seeds, torch.device("cpu")).normal(3, 16, 16)
    up = F.interpolate(z, scale_factor=2.0, mode="bilinear", align_corners=False)
    torch.testing.assert_close(x, alpha_bar**0.5 * up + (1 - alpha_bar) ** 0.5 * noise, atol=1e-5, rtol=0)
    assert denoiser.process.timestep_map == (0, 75, 150, 224, 299)
    assert stage(start_step=100).sampler.steps == "ddim2"
    assert stage(start_step=100, sampler=Sampler()).sampler.steps == "100"
    tiny.refusal(lambda: module.sample(seeds, {"noisy_low_res": z}), "--model.start_step", "truncated")


# What cannot be


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: SuperResolution(unet=tiny.unet_config()), ["give --model.low_res_size"]),
        (lambda: stage(low_res_size=16), ["--model.low_res_size is 16", "2 to 15"]),
        (lambda: stage(augmentation_s=3), ["--model.augmentation_s is 3", "without noise", "set it to 0"]),
        (
            lambda: stage(augmentation=Augmentation(LowResNoise(100, s_max=50)), augmentation_s=51),
            ["--model.augmentation_s is 51", "s = 1 (noise std 0.025) to s = 50 (noise std 0.7"],
        ),
        (
            lambda: stage(augmentation=Augmentation(LowResNoise(100)), augmentation_s=0),
            ["augmentation_s is 0", "s = 1"],
        ),
        (lambda: stage(start_step=1), ["--model.start_step is 1", "at least 2"]),
        (lambda: stage(start_step=1001), ["--model.start_step is 1001", "2 to 1000"]),
    ],
)
def test_options_that_do_not_fit(make: Any, words: list[str]):
    tiny.refusal(make, *words)


def test_conditions_that_do_not_fit():
    module, seeds = tiny.randomised(stage(augmentation=NOISY)), torch.arange(1)
    tiny.refusal(lambda: module.sample(seeds), "enlarges images", "--images.low_res")
    tiny.refusal(lambda: module.sample(seeds, {"low_res": torch.zeros(1, 3, 8, 9)}), "9 x 8", "enlarges 8 x 8 RGB")
    tiny.refusal(lambda: module.sample(seeds, {"low_res": torch.zeros(1, 1, 8, 8)}), "1 channels")
    tiny.refusal(lambda: module.sample(seeds, {"low_res": small(1), "s": torch.tensor([101])}), "s is 101")


def test_weights_of_no_stage_and_checkpoints_of_another(tmp_path: Path):
    tiny.refusal(
        lambda: stage(init_from=saved(tmp_path, tiny.ddpm())), "for DDPM, not for SuperResolution", "--model DDPM"
    )
    theirs = stage(augmentation=NOISY)
    tiny.refusal(lambda: load(stage(augmentation=NOISY, low_res_size=4), theirs), "--model.low_res_size 8 (here 4)")
    other = stage(augmentation=Augmentation(LowResNoise(200, s_min=0)))
    tiny.refusal(lambda: load(other, theirs), "--model.augmentation.noise.num_steps 100 (here 200)")
    tiny.refusal(lambda: tiny.ddpm(init_from=saved(tmp_path, theirs), unet=None), "--model SuperResolution")
