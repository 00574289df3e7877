from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.optim.lr_scheduler import StepLR

from tenshot.callbacks import EMA
from tenshot.datamodules import FewShot, SyntheticFaces
from tenshot.diffusion import Denoiser, DiffusionConfig, GaussianDiffusion, bits_per_dim
from tenshot.distributed.seeding import position_seed
from tenshot.errors import InputError
from tenshot.lightning_modules import DDPM, Sampler
from tenshot.models import UNet

FIXED: dict[str, Any] = {
    "unet": tiny.unet_config(out_channels=3), "diffusion": DiffusionConfig(variance="fixed_large")
}  # fmt: skip


def fit(folder: Path, module: DDPM, steps: int = 1, data: Any = None, **arguments: Any) -> Trainer:
    trainer = tiny.trainer(folder, steps, **arguments)
    trainer.fit(module, data or tiny.faces())
    return trainer


def logged(trainer: Trainer, prefix: str = "train/") -> dict[str, float]:
    return {k.removeprefix(prefix): v.item() for k, v in trainer.callback_metrics.items() if k.startswith(prefix)}


# Training


def test_fit_moves_every_weight_of_the_unet_and_nothing_else(tmp_path: Path):
    module = tiny.randomised(tiny.ddpm())
    before = {name: value.clone() for name, value in module.state_dict().items()}
    fit(tmp_path, module)

    after = module.state_dict()
    assert all(name.startswith("unet.") for name in after)
    assert {name for name in after if not torch.equal(before[name], after[name])} == set(after)


def test_a_fresh_network_learns_one_image(tmp_path: Path, shots: Path):
    module = tiny.ddpm(**FIXED)
    losses: list[float] = []

    class Note(Callback):
        def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, *rest: Any) -> None:
            losses.append(outputs["loss"].item())

    data = FewShot(str(shots), shots=1, image_size=16, batch_size=4, flip=False)
    tiny.trainer(tmp_path, 12, Note()).fit(module, data)
    assert losses[0] == pytest.approx(1, abs=0.05)  # it predicts no noise at all
    assert np.mean(losses[-5:]) < 0.5


@pytest.mark.parametrize("learned", [True, False])
def test_the_logged_terms_add_up_and_are_those_of_the_formula(tmp_path: Path, shots: Path, learned: bool):
    module = tiny.randomised(tiny.ddpm(optimizer=tiny.adam(0.0), **({} if learned else FIXED)))
    data = FewShot(str(shots), image_size=16, batch_size=5, flip=False)
    first = next(iter(data.train_dataloader()))
    terms = logged(fit(tmp_path, module, data=data))

    # what StepSeed (seed 3) makes the first step draw, and DDPM's simple loss by hand
    torch.manual_seed(position_seed([3, 0, 0, 0, 0]))
    t = torch.randint(1000, (5,))
    x = first["image"] / 127.5 - 1
    noise = torch.randn_like(x)
    alpha_bar = torch.from_numpy(np.cumprod(1 - np.linspace(1e-4, 0.02, 1000)))[t].float().view(-1, 1, 1, 1)
    with torch.no_grad():
        output = module.unet(alpha_bar.sqrt() * x + (1 - alpha_bar).sqrt() * noise, t)
    mse = (output[:, :3] - noise).square().mean().item()

    assert terms.keys() == ({"loss", "mse", "vb"} if learned else {"loss", "mse"})
    assert terms["mse"] == pytest.approx(mse, rel=1e-5)
    assert terms["loss"] == pytest.approx(terms["mse"] + terms.get("vb", 0), rel=1e-6)
    assert terms.get("vb", 1) > 0


def test_the_weight_of_the_bound(tmp_path: Path):
    light, heavy = (logged(fit(tmp_path, tiny.randomised(tiny.ddpm(vlb_weight=weight)))) for weight in (0.001, 0.01))
    assert heavy["vb"] == pytest.approx(10 * light["vb"], rel=1e-5)
    assert heavy["mse"] == pytest.approx(light["mse"], rel=1e-6)


def test_the_bound_alone(tmp_path: Path):
    module = tiny.randomised(tiny.ddpm(objective="vlb", timesteps="loss_aware", diffusion=tiny.process()))
    terms = logged(fit(tmp_path, module, 2))

    assert terms.keys() == {"loss", "vb"}
    history = module.denoiser.timesteps.state_dict()
    assert history["counts"].sum() == 8  # two batches of four
    assert (history["history"][history["counts"] > 0].sum(1) > 0).all()


@pytest.mark.parametrize("objective", ["hybrid", "vlb"])
def test_losses_of_timesteps_that_are_drawn_often_count_less(objective: Any):
    """Improved DDPM, section 3.3: p(t) as sqrt(E[L^2]), and the weight 1 / (T p(t)), which leaves the mean unbiased."""
    module = tiny.randomised(tiny.ddpm(objective=objective, timesteps="loss_aware", diffusion=tiny.process()))
    seen: list[tuple[Tensor, dict[str, Tensor]]] = []
    loss_terms = module.loss_terms
    module.loss_terms = lambda step: (seen.append((step.t, loss_terms(step))), seen[-1][1])[1]  # type: ignore[method-assign]
    rms = np.arange(1.0, 51.0) ** 2
    history = torch.from_numpy(rms)[:, None].repeat(1, 10)
    module.denoiser.timesteps.load_state_dict({"history": history, "counts": torch.full((50,), 10)})
    loss = module.training_step({"image": torch.rand(64, 3, 16, 16)}, 0)

    [(t, terms)] = seen
    p = 0.999 * rms / rms.sum() + 0.001 / 50
    per_sample = sum(value.detach().double().numpy() for value in terms.values())
    assert loss.item() == pytest.approx(np.mean(per_sample / (50 * p[t.numpy()])), rel=1e-5)
    assert loss.item() != pytest.approx(per_sample.mean(), rel=0.1)


def test_the_bound_alone_with_a_fixed_variance_warns():
    with pytest.warns(UserWarning, match="the bound trains the mean only"):
        tiny.ddpm(**FIXED, objective="vlb")


def test_the_schedule_counts_optimiser_steps(tmp_path: Path):
    module = tiny.ddpm(optimizer=tiny.adam(1.0), lr_scheduler=lambda optimizer: StepLR(optimizer, 2, gamma=0.1))
    trainer = fit(tmp_path, module, 5, accumulate_grad_batches=2)
    assert trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(0.01)


def test_without_a_schedule_the_rate_stays(tmp_path: Path):
    assert fit(tmp_path, tiny.ddpm(), 3).optimizers[0].param_groups[0]["lr"] == 1e-2


def test_only_the_network_is_compiled_and_its_names_stay(monkeypatch: pytest.MonkeyPatch):
    compiled = []
    monkeypatch.setattr(UNet, "compile", lambda self: compiled.append(type(self)))
    names = tiny.ddpm().state_dict().keys()
    assert not compiled
    assert tiny.ddpm(compile=True).state_dict().keys() == names
    assert compiled == [UNet]


def test_drawn_images_are_clamped(monkeypatch: pytest.MonkeyPatch):
    """A sampler ends near [-1, 1], not in it: unless told to clip, beyond by far."""
    module = tiny.randomised(tiny.ddpm(sampler=Sampler("ddim", "ddim2", clip_denoised=False)))
    before: list[Tensor] = []
    draw = Sampler.__call__
    monkeypatch.setattr(Sampler, "__call__", lambda *args, **more: (before.append(draw(*args, **more)), before[-1])[1])
    drawn = module.sample(torch.arange(2))
    assert before[0].abs().max() > 1.5
    assert torch.equal(drawn, before[0][:2].clamp(-1, 1))


# Validation


def test_validation_values_equal_a_direct_computation_over_all_images(tmp_path: Path):
    """Five images in batches of three and two; averaged weights; the seeds of validation batches."""
    module = tiny.randomised(tiny.ddpm(bits_per_dim="4", optimizer=tiny.adam(1e-3)))
    data, ema = tiny.faces(num_val=5, batch_size=3), EMA(0.9)
    trainer = fit(tmp_path, module, 2, data=data, ema=ema, val_check_interval=2, check_val_every_n_epoch=None)

    network = UNet(module.unet.config).eval()
    network.load_state_dict(ema.average["unet"])
    whole = GaussianDiffusion(DiffusionConfig())
    losses, bits = [], []
    assert data.val_source is not None
    for number, indices in enumerate((range(3), range(3, 5))):
        x = data.val_source.read(indices)["image"] / 127.5 - 1
        torch.manual_seed(position_seed([3, 1, 0, 0, number]))
        t = torch.randint(1000, (len(x),))
        noise = torch.randn_like(x)
        x_t = whole.q_sample(x, t, noise)
        with torch.no_grad():
            output = network(x_t, t)
        losses += ((output[:, :3] - noise).square().mean((1, 2, 3)) + whole.vlb_terms(output, x, x_t, t)).tolist()
        bits += bits_per_dim(Denoiser(whole.respace("4"), network), x).total.tolist()

    values = logged(trainer, "val/")
    assert values["loss"] == pytest.approx(np.mean(losses), rel=1e-5)
    assert values["bits_per_dim"] == pytest.approx(np.mean(bits), rel=1e-5)
    assert len(set(bits)) == 5


def test_every_validation_starts_anew(tmp_path: Path):
    module = tiny.randomised(tiny.ddpm(optimizer=tiny.adam(0.0)))
    values = []

    class Note(Callback):
        def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
            values.append(trainer.callback_metrics["val/loss"].item())

    tiny.trainer(tmp_path, 4, Note(), val_check_interval=2, check_val_every_n_epoch=None).fit(
        module, tiny.faces(num_val=5)
    )
    assert values[0] == values[1]  # nothing was learnt, so nothing may change
    assert "val/bits_per_dim" not in module.trainer.callback_metrics


# Sampling


@pytest.mark.parametrize("method", [Sampler("ddpm", "3"), Sampler("ddim", "ddim4", eta=0.5), Sampler("dpm_solver", 3)])
def test_an_image_depends_on_its_seed_alone_to_the_last_bit(method: Sampler):
    module = tiny.randomised(tiny.ddpm(sampler=method))
    seeds = torch.tensor([4, 9, 2, 7, 5])
    together = module.sample(seeds)

    assert len({image.numpy().tobytes() for image in together}) == len(seeds)
    for batch in (1, 2):
        assert torch.equal(torch.cat([module.sample(part) for part in seeds.split(batch)]), together)
    assert torch.equal(module.sample(seeds.flip(0)).flip(0), together)
    assert together.shape == (5, 3, 16, 16)
    assert together.dtype == torch.float32
    assert together.abs().max() <= 1


def test_sampling_leaves_mode_and_generator_alone_and_drops_nothing():
    module = tiny.randomised(tiny.ddpm(unet=tiny.unet_config(dropout=0.5)))
    seeds = torch.arange(2)
    module.eval()
    expected = module.sample(seeds)
    assert not module.unet.training
    module.train()
    torch.manual_seed(0)
    state = torch.get_rng_state()

    assert torch.equal(module.sample(seeds), expected)
    assert module.unet.training
    assert torch.equal(torch.get_rng_state(), state)
    assert not expected.requires_grad


def test_previews_have_a_sampler_of_their_own():
    module = tiny.randomised(tiny.ddpm(sampler=Sampler("ddpm", "3"), preview_sampler=tiny.QUICK))
    other = tiny.randomised(tiny.ddpm(sampler=tiny.QUICK))
    seeds = torch.arange(2)

    assert torch.equal(module.sample(seeds, preview=True), other.sample(seeds))
    assert not torch.equal(module.sample(seeds), other.sample(seeds))
    assert DDPM(tiny.unet_config()).preview_sampler == Sampler("dpm_solver", 20)


# What cannot be


def test_a_method_needs_a_network_from_somewhere():
    with pytest.raises(InputError, match=r"give --model\.unet, or weights to start from with --model\.init_from"):
        DDPM()


def test_outputs_must_suit_the_variance():
    with pytest.raises(InputError, match=r"unet\.out_channels is 6, but variance fixed_small of 3 channels needs 3"):
        tiny.ddpm(diffusion=DiffusionConfig(variance="fixed_small"))
    with pytest.raises(InputError, match=r"unet\.out_channels is 3, but variance learned_range of 3 channels needs 6"):
        tiny.ddpm(unet=tiny.unet_config(out_channels=3))


def test_data_without_a_size_of_its_own_is_not_asked_for_one(tmp_path: Path):
    loader = SyntheticFaces(image_size=16, batch_size=2, num_val=0).train_dataloader()
    module = tiny.ddpm()
    module.on_after_batch_transfer = lambda batch, index: {"image": batch["image"] / 127.5 - 1}  # type: ignore[method-assign,assignment]
    trainer = tiny.trainer(tmp_path, 1)
    trainer.fit(module, loader)  # type: ignore[arg-type]
    assert trainer.global_step == 1
