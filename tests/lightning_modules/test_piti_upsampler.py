"""PITI's upsampler: its step by hand, when its losses count, resuming, and whether its conditions are used."""

from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from lightning.pytorch import Callback
from tiny_piti import masks, pairs
from tiny_upsampler import ADVERSARY, CONFIG, PERCEPTUAL, upsampler
from torch import Tensor

from tenshot.callbacks import StepCheckpoint
from tenshot.checkpoints import PITI_UNET, read
from tenshot.diffusion import DiffusionConfig
from tenshot.diffusion.degradation import Degradation
from tenshot.distributed.seeding import position_seed
from tenshot.lightning_modules import PatchAdversary, Perceptual, PITIUpsampler
from tenshot.losses import hybrid_loss
from tenshot.models.features import feature_maps

PLAIN = {"perceptual": Perceptual(0.0), "adversary": PatchAdversary(0.0, channels=4, layers=2)}


def sgd(lr: float) -> Any:
    return lambda params: torch.optim.SGD(params, lr=lr)


class Outputs(Callback):
    """What each step returns."""

    def __init__(self) -> None:
        self.steps: list[dict[str, float]] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, *rest: Any) -> None:
        self.steps.append({name: value.item() for name, value in outputs.items()})


def fit(folder: Path, module: PITIUpsampler, steps: int = 1, *callbacks: Callback, **arguments: Any) -> Outputs:
    outputs = Outputs()
    tiny.trainer(folder, steps, outputs, *callbacks, **arguments).fit(module, pairs())
    return outputs


def test_a_step_is_one_of_the_discriminator_then_one_against_it(tmp_path: Path):
    """By the closed form of the estimate, and by autograd for the critic's step, whose outcome judges the estimate."""
    module = tiny.randomised(upsampler(optimizer=sgd(0.0), optimizer_d=sgd(0.5)))
    critic, data = deepcopy(module.discriminator), pairs()
    batch = data.on_after_batch_transfer(next(iter(data.train_dataloader())), 0)
    torch.manual_seed(position_seed([3, 0, 0, 0, 0]))
    x, mask = batch["image"], batch["condition"]["condition_image"]
    t = torch.randint(1000, (4,))
    noise, seeds = torch.randn_like(x), torch.randint(2**62, (4,))
    share = torch.rand(4).view(-1, 1, 1, 1)
    alpha_bar = torch.tensor(np.cumprod(1 - np.linspace(1e-4, 0.02, 1000)), dtype=torch.float32)[t].view(-1, 1, 1, 1)
    x_t = alpha_bar.sqrt() * x + (1 - alpha_bar).sqrt() * noise
    low_res = Degradation()(x, 8, seeds)
    with torch.no_grad():
        output = module.unet(x_t, t, low_res=low_res, condition_image=mask)
    estimate = ((x_t - (1 - alpha_bar).sqrt() * output[:, :3]) / alpha_bar.sqrt()).clamp(-1, 1)
    assert 0.02 < (estimate.abs() == 1).float().mean() < 0.98

    between = (estimate + share * (x - estimate)).requires_grad_()
    [slope] = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
    penalty = 10 * (slope.square().sum((1, 2, 3)).sqrt() - 1).square().mean()
    loss = critic(estimate).mean() - critic(x).mean()
    gradients = torch.autograd.grad(loss + penalty, list(critic.parameters()))
    with torch.no_grad():
        for weight, gradient in zip(critic.parameters(), gradients, strict=True):
            weight -= 0.5 * gradient
    features = feature_maps("efficientnet_lite0")
    expected = {
        "discriminator": loss, "gradient_penalty": penalty, "adversarial": -0.01 * critic(estimate).mean(),
        "perceptual": 0.004 * (features(estimate) - features(x)).square().mean(),
    }  # fmt: skip
    expected |= {name: v.mean() for name, v in hybrid_loss(module.diffusion, output, x, x_t, t, noise).items()}

    [found] = fit(tmp_path, module).steps
    total = found.pop("loss")
    assert found == pytest.approx({name: value.item() for name, value in expected.items()}, rel=2e-4)
    assert total == pytest.approx(sum(found[name] for name in ("mse", "vb", "perceptual", "adversarial")), rel=1e-5)
    for ours, theirs in zip(module.discriminator.parameters(), critic.parameters(), strict=True):
        torch.testing.assert_close(ours.detach(), theirs.detach(), rtol=1e-4, atol=1e-5)


def test_each_player_learns_of_its_own_loss(tmp_path: Path):
    """The network by gradients of its terms alone, through the discriminator's weights after their step."""
    module = tiny.randomised(upsampler(optimizer=sgd(1.0), optimizer_d=sgd(0.0)))
    plain = tiny.randomised(upsampler(optimizer=sgd(1.0), optimizer_d=sgd(0.0), **PLAIN))
    before, judge = (deepcopy(part.state_dict()) for part in (module.unet, module.discriminator))
    fit(tmp_path, module)
    fit(tmp_path, plain)
    tiny.assert_same(module.discriminator.state_dict(), judge)
    moved, without = (each.unet.conv.weight.detach() - before["conv.weight"] for each in (module, plain))
    assert (moved - without)[:3].abs().max() > 1e-3 * without.abs().max()  # the noise
    torch.testing.assert_close(moved[3:], without[3:], rtol=1e-3, atol=1e-6)  # the variance, of which x0 knows nothing


def test_the_losses_count_from_their_step_on_and_the_discriminator_rests_before(tmp_path: Path):
    module = upsampler(losses_from=1)
    first, states = deepcopy(module.discriminator.state_dict()), []

    class Watch(Callback):
        def on_train_batch_end(self, trainer: Any, pl_module: Any, *rest: Any) -> None:
            states.append(deepcopy(pl_module.discriminator.state_dict()))

    before, after = fit(tmp_path, module, 2, Watch()).steps
    assert before.keys() == {"loss", "mse", "vb"}
    assert after.keys() - before.keys() == {"perceptual", "adversarial", "discriminator", "gradient_penalty"}
    tiny.assert_same(states[0], first)
    assert not torch.equal(states[1]["network.0.weight"], first["network.0.weight"])
    assert module.phases(0) == (False,)
    assert module.phases(1) == (True,)

    alone = fit(tmp_path, upsampler(**PLAIN | {"perceptual": PERCEPTUAL})).steps[0]
    assert alone.keys() - before.keys() == {"perceptual"}
    judged = fit(tmp_path, upsampler(**PLAIN | {"adversary": ADVERSARY})).steps[0]
    assert judged.keys() - before.keys() == {"adversarial", "discriminator", "gradient_penalty"}


def test_a_run_that_was_stopped_before_or_after_they_count_ends_in_the_same_bits(tmp_path: Path):
    def run(folder: str, begun: int | None = None) -> dict[str, Any]:
        module = upsampler(losses_from=1, timesteps="loss_aware")
        trainer = tiny.trainer(tmp_path / folder, 3, StepCheckpoint(every_n_steps=1, keep=3))
        torch.manual_seed(12345)  # another process would be in another state
        trainer.fit(module, pairs(), ckpt_path=begun and tmp_path / f"whole/checkpoints/step={begun:08d}.ckpt")
        return torch.load(tmp_path / folder / "checkpoints" / "step=00000003.ckpt", weights_only=True)

    whole = run("whole")
    for begun in (1, 2):
        resumed = run(str(begun), begun)
        for part in ("state_dict", "optimizer_states", "ema", "timesteps", "timestep_bins", "tenshot"):
            tiny.assert_same(resumed[part], whole[part], f"{begun} {part}")
    assert whole["global_step"] == 3
    assert whole["optimizer_states"][1]["state"][0]["step"] == 2
    assert any(name.startswith("discriminator.") for name in whole["state_dict"])
    assert whole["ema"]["weights"].keys() == {"unet"}
    assert whole["tenshot"]["stage"] == {"low_res_size": 8}
    assert not any("efficientnet" in name or "features" in name for name in whole["state_dict"])
    assert read(str(tmp_path / "whole"), PITI_UNET).method == "PITIUpsampler"


def test_small_images_are_degraded_by_seeds_of_their_place():
    module, batch = upsampler(), {"image": torch.rand(3, 3, 16, 16) * 2 - 1, "condition": {"condition_image": masks(3)}}
    torch.manual_seed(7)
    given = module.condition_of(batch)
    assert given is not None
    torch.manual_seed(7)
    seeds = torch.randint(2**62, (3,))
    assert torch.equal(given["low_res"], Degradation()(batch["image"], 8, seeds))
    assert given["condition_image"] is batch["condition"]["condition_image"]
    plain = upsampler(degradation=None).condition_of(batch)
    assert plain is not None
    expected = torch.nn.functional.interpolate(batch["image"], (8, 8), mode="bicubic", antialias=True).clamp(-1, 1)
    torch.testing.assert_close(plain["low_res"], expected)


def test_the_gaps_are_the_loss_with_one_condition_of_another_image_less_that_with_both(tmp_path: Path):
    simple = {"piti": replace(CONFIG, out_channels=3), "diffusion": DiffusionConfig(variance="fixed_large")}
    module, data = tiny.randomised(upsampler(degradation=None, **simple)), pairs(num_val=4)
    assert data.val_source is not None
    batch = data.on_after_batch_transfer(data.val_source.read(range(4)), 0)
    torch.manual_seed(position_seed([3, 1, 0, 0, 0]))
    x, image = batch["image"], batch["condition"]["condition_image"]
    t, noise = torch.randint(1000, (4,)), torch.randn_like(x)
    x_t, others = module.diffusion.q_sample(x, t, noise), [3, 0, 1, 2]
    small = module.condition_from(x)["low_res"]

    def loss(low_res: Tensor, condition_image: Tensor) -> float:
        with torch.no_grad():
            output = module.unet(x_t, t, low_res=low_res, condition_image=condition_image)
        return (output - noise).square().mean().item()

    [values] = tiny.trainer(tmp_path, 1).validate(module, data, verbose=False)
    own = loss(small, image)
    assert values["val/loss"] == pytest.approx(own, rel=1e-5)
    assert values["val/low_res_gap"] == pytest.approx(loss(small[others], image) - own, rel=1e-2)
    assert values["val/condition_gap"] == pytest.approx(loss(small, image[others]) - own, rel=1e-2)
    assert abs(values["val/low_res_gap"] - values["val/condition_gap"]) > 1e-3


def test_an_upsampler_that_ignores_its_small_images_is_warned_of_once(tmp_path: Path, recwarn: pytest.WarningsRecorder):
    module = upsampler()  # a fresh one outputs 0
    module.low_res_gap.step = 500
    for _ in range(2):
        tiny.trainer(tmp_path, 1).validate(module, pairs(num_val=4), verbose=False)
    assert sum("condition ignored: with the low-resolution image" in str(each.message) for each in recwarn) == 1
