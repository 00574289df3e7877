"""PITI: what each stage trains, from what it begins, and whether the condition is used."""

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import glide_files
import pytest
import tiny
import torch
import torch.distributed as dist
from lightning.pytorch import Callback, LightningModule, Trainer
from tiny_piti import CONFIG, TINY, pairs, piti, public_file
from tiny_stages import saved
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from tenshot.callbacks import StepCheckpoint
from tenshot.checkpoints import PITI_UNET, read
from tenshot.diffusion import DiffusionConfig, GaussianDiffusion
from tenshot.distributed.seeding import position_seed
from tenshot.lightning_modules import PITI
from tenshot.models.pretrained import load_glide, load_piti

SIMPLE: dict[str, Any] = {
    "piti": replace(CONFIG, out_channels=3), "diffusion": DiffusionConfig(variance="fixed_large"),
}  # fmt: skip


def glide_file(folder: Path) -> str:
    return public_file(folder / "base.pt", glide_files.glide())


def fit(
    folder: Path, module: PITI, steps: int = 1, *callbacks: Callback, data: Any = None, **arguments: Any
) -> Trainer:
    trainer = tiny.trainer(folder, steps, *callbacks, **arguments)
    trainer.fit(module, data or pairs())
    return trainer


def weights(module: PITI) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in module.unet.state_dict().items()}


# Training


@pytest.mark.parametrize("drop", [0.0, 0.5])
def test_a_step_is_the_regression_of_noise_with_white_images_in_place_of_some(tmp_path: Path, drop: float):
    module = tiny.randomised(piti(**SIMPLE, condition_drop=drop, optimizer=tiny.adam(0.0)))
    data = pairs()
    batch = data.on_after_batch_transfer(next(iter(data.train_dataloader())), 0)
    torch.manual_seed(position_seed([3, 0, 0, 0, 0]))
    x, condition = batch["image"], batch["condition"]["condition_image"].float() / 127.5 - 1
    t = torch.randint(1000, (len(x),))
    noise = torch.randn_like(x)
    x_t = GaussianDiffusion(DiffusionConfig()).q_sample(x, t, noise)
    if drop:
        hidden = torch.rand(len(x)) < drop
        assert 0 < hidden.sum() < len(x)
        condition[hidden] = 1.0
    with torch.no_grad():
        expected = (module.unet(x_t, t, condition_image=condition) - noise).square().mean().item()
    loss = fit(tmp_path, module, data=data).callback_metrics["train/loss"].item()
    assert loss == pytest.approx(expected, rel=1e-5)


class Modes(Callback):
    """Which parts are in training mode at a step."""

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *rest: Any) -> None:
        self.training = {name for name, part in pl_module.named_modules() if part.training}


@pytest.mark.parametrize(("stage", "adapt_context"), [(1, False), (1, True), (2, False)])
def test_a_stage_trains_its_part_and_the_rest_stays_as_the_file_has_it(tmp_path: Path, stage: Any, adapt_context: bool):
    config = replace(CONFIG, condition_input=True)
    module = piti(init_from=glide_file(tmp_path), piti=config, stage=stage, adapt_context=adapt_context)
    before, modes = weights(module), Modes()
    trainer = fit(tmp_path, module, 2, modes, data=pairs(num_val=0))
    moved = {name for name, value in weights(module).items() if not torch.equal(value, before[name])}
    context = {name for name in before if "context_kv" in name or name.startswith("context_embedding")}
    encoder = {name for name in before if name.startswith(("context_encoder.", "condition_stem."))}
    assert context
    expected = set(before) if stage == 2 else encoder | context if adapt_context else encoder
    still = {name for name in expected - moved if ".convs." in name and name.endswith("bias")}  # before instance norms
    assert moved == expected - still
    assert {name for name, value in module.unet.named_parameters() if value.requires_grad} == expected
    trained = [weight for group in trainer.optimizers[0].param_groups for weight in group["params"]]
    assert {id(weight) for weight in trained} == {
        id(value) for name, value in module.unet.named_parameters() if name in expected
    }
    assert all(value.grad is None for name, value in module.unet.named_parameters() if name not in expected)
    assert modes.training >= {f"unet.{name}" for name, _ in module.unet.named_modules() if name}  # dropout is on


def test_what_is_frozen_is_not_sent_between_processes(tmp_path: Path):
    module = piti(init_from=glide_file(tmp_path), piti=CONFIG)
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        told = DistributedDataParallel(module)._get_ddp_logging_data()
    finally:
        dist.destroy_process_group()
    encoder = sum(weight.numel() for weight in module.unet.context_encoder.parameters())
    assert told["total_parameter_size_bytes"] == 4 * encoder


def test_stage_2_begins_with_the_averaged_encoder_of_stage_1_and_the_frozen_network(tmp_path: Path):
    glide = glide_file(tmp_path)
    first = piti(init_from=glide, piti=CONFIG, optimizer=tiny.adam(0.1))
    fit(tmp_path / "first", first, 3, StepCheckpoint())
    checkpoint = torch.load(tmp_path / "first/checkpoints/step=00000003.ckpt", weights_only=True)
    second = piti(init_from=str(tmp_path / "first"), stage=2, condition_drop=0.2)
    assert second.unet.config == CONFIG
    average = checkpoint["ema"]["weights"]["unet"]
    assert {name.split(".")[0] for name in average} == {"context_encoder"}  # nothing else was trained
    tiny.assert_same({name: second.unet.state_dict()[name] for name in average}, average)
    decoder = load_glide(glide, text_heads=1, image_size=16, head_channels=32, attention_resolutions=(8,)).state_dict()
    for name, value in second.unet.state_dict().items():
        if not name.startswith("context_encoder."):
            assert torch.equal(value, decoder[name]), name
    raw = piti(init_from=str(tmp_path / "first"), init_weights="raw", stage=2)
    assert not torch.equal(raw.unet.context_encoder.class_token, second.unet.context_encoder.class_token)

    del checkpoint["ema"]["weights"]["unet"]["context_encoder.class_token"]
    torch.save(checkpoint, tmp_path / "broken.ckpt")
    tiny.refusal(lambda: piti(init_from=str(tmp_path / "broken.ckpt")), "missing keys (context_encoder.class_token)")


def test_public_files_a_lone_encoder_and_a_diffusion_model_without_a_condition(tmp_path: Path):
    network, public = glide_files.piti(), {"image_size": 16, "head_channels": 32, "attention_resolutions": (8,)}
    file = public_file(tmp_path / "base_mask.pt", network)
    expected = load_piti(file, condition_heads=1, **public).state_dict()
    whole = piti(init_from=file, piti=CONFIG)
    tiny.assert_same(whole.unet.state_dict(), expected)
    assert whole.diffusion.config == DiffusionConfig(schedule="cosine")
    assert whole.knows_null

    encoder, glide = public_file(tmp_path / "stage1.pt", network, "encoder."), tiny.randomised(glide_files.glide(), 1)  # type: ignore[type-var]
    start = public_file(tmp_path / "base.pt", glide)
    for given in (encoder, file):
        both = piti(init_from=start, encoder_from=given, piti=CONFIG).unet
        tiny.assert_same(both.context_encoder.state_dict(), network.context_encoder.state_dict())
        tiny.assert_same(both.encoder.state_dict(), glide.encoder.state_dict())
        assert not torch.equal(both.encoder.stem.weight, network.encoder.stem.weight)

    prior = tiny.randomised(tiny.ddpm())
    plain = str(tiny.weights_file(tmp_path / "plain.safetensors", prior))
    config = replace(CONFIG, condition_input=True)
    module = piti(init_from=plain, piti=config, stage=1, adapt_context=True, diffusion=None)
    own = module.unet.state_dict()
    for name, value in prior.unet.state_dict().items():
        assert torch.equal(own[name], value), name
    assert module.unet.condition_stem.weight.requires_grad
    assert not module.knows_null


def test_a_prior_of_images_alone_becomes_one_that_draws_from_masks(tmp_path: Path):
    """Its network has seen the white image only; stage 1 teaches its encoder to tell more."""
    prior = piti(piti=TINY, condition_drop=1.0)
    assert prior.condition_name is None
    fit(tmp_path, prior, 2, StepCheckpoint(), data=tiny.faces(num_val=4))
    assert prior.sample(torch.arange(2)).shape == (2, 3, 16, 16)
    module = piti(init_from=str(tmp_path), condition_drop=0.2)
    assert module.knows_null
    before = weights(module)
    fit(tmp_path / "stage1", module, 1)
    moved = {name for name, value in weights(module).items() if not torch.equal(value, before[name])}
    assert moved
    assert all(name.startswith("context_encoder.") for name in moved)


def test_a_prior_of_masks_begins_with_a_fresh_encoder_of_sketches(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    prior = tiny.randomised(piti(piti=replace(TINY, condition_input=True), condition_drop=0.2))
    file = saved(tmp_path, prior)
    with caplog.at_level("INFO"):
        module = piti(init_from=file, piti=replace(TINY, condition_channels=1, condition_input=True))
    assert f"{file}: starting from raw weights of step 7, with a fresh condition encoder, with a first" in caplog.text
    assert module.unet.context_encoder.config == replace(TINY, condition_channels=1).condition
    own, theirs = module.unet.state_dict(), prior.unet.state_dict()
    kept = {name for name in own if not name.startswith(("context_encoder.", "condition_stem."))}
    tiny.assert_same({name: own[name] for name in kept}, {name: theirs[name] for name in kept})
    assert not module.unet.condition_stem.weight.any()
    assert not module.knows_null  # the fresh encoder has never seen a white image
    assert piti(init_from=file).knows_null
    other = replace(TINY, condition_input=True, condition_layers=2)
    tiny.refusal(lambda: piti(init_from=file, piti=other), "another network, with piti.condition_layers 1 (here 2)")
    tiny.refusal(
        lambda: piti(init_from=file, piti=TINY), "another network, with piti.condition_input True (here False)"
    )


@pytest.mark.parametrize("stage", [1, 2])
def test_a_run_that_was_stopped_and_resumed_ends_in_the_same_bits(tmp_path: Path, stage: Any):
    start = public_file(tmp_path / "base.pt", glide_files.glide(channel_mult=(1,), attention_resolutions=()))
    config = replace(TINY, dropout=0.1)

    def run(folder: str, steps: int, resume: bool = False) -> dict[str, Any]:
        path = max((tmp_path / folder / "checkpoints").glob("*.ckpt")) if resume else None
        module = piti(init_from=start, piti=config, stage=stage, condition_drop=0.5, timesteps="loss_aware")
        trainer = tiny.trainer(tmp_path / folder, steps, StepCheckpoint(every_n_steps=100))
        trainer.fit(module, pairs(), ckpt_path=path)
        return torch.load(tmp_path / folder / "checkpoints" / f"step={steps:08d}.ckpt", weights_only=True)

    whole = run("whole", 3)
    run("halves", 2)
    torch.manual_seed(12345)
    resumed = run("halves", 3, resume=True)
    for part in ("state_dict", "optimizer_states", "ema", "timesteps", "timestep_bins", "tenshot"):
        tiny.assert_same(resumed[part], whole[part], part)
    assert whole["tenshot"]["stage"] == {"condition_drop": 0.5}
    assert read(str(tmp_path / "whole"), PITI_UNET).method == "PITI"


# Whether the condition is used


def validated(folder: Path, module: PITI, **arguments: Any) -> dict[str, float]:
    data = pairs(num_val=4, **arguments)
    [values] = tiny.trainer(folder, 1).validate(module, data, verbose=False)
    return dict(values)


def test_the_gap_is_the_loss_with_the_condition_of_another_image_less_that_with_its_own(tmp_path: Path):
    module, data = tiny.randomised(piti(**SIMPLE, condition_drop=0.5)), pairs(num_val=4)
    assert data.val_source is not None
    batch = data.on_after_batch_transfer(data.val_source.read(range(4)), 0)
    torch.manual_seed(position_seed([3, 1, 0, 0, 0]))
    x, image = batch["image"], batch["condition"]["condition_image"]
    t, noise = torch.randint(1000, (4,)), torch.randn_like(x)
    x_t = module.diffusion.q_sample(x, t, noise)
    with torch.no_grad():
        own, others = (
            (module.unet(x_t, t, condition_image=each) - noise).square().mean().item()
            for each in (image, image[[3, 0, 1, 2]])
        )
    values = validated(tmp_path, module)
    assert values["val/loss"] == pytest.approx(own, rel=1e-5)
    assert values["val/condition_gap"] == pytest.approx(others - own, rel=1e-2)
    alone = validated(tmp_path, module, batch_size=1)
    assert alone["val/condition_gap"] != 0  # each image against itself, upside down


@pytest.mark.parametrize(("fresh", "step", "warns"), [(True, 500, True), (True, 499, False), (False, 500, False)])
def test_a_network_that_ignores_its_condition_is_warned_of_once(
    tmp_path: Path, recwarn: pytest.WarningsRecorder, fresh: bool, step: int, warns: bool
):
    """A fresh network outputs 0, whatever it is told; of random weights a wrong condition cannot be worse for long."""
    warnings.simplefilter("always")
    module = piti(**SIMPLE) if fresh else tiny.randomised(piti(**SIMPLE))
    if not fresh:
        network = module.denoiser.network
        true = pairs(num_val=4).val_source.read(range(4))["condition_image"]  # type: ignore[union-attr]

        def knowing(x_t: Tensor, t: Tensor, condition_image: Tensor) -> Tensor:
            return network(x_t, t, condition_image=condition_image) * (0 if torch.equal(condition_image, true) else 9)

        module.denoiser.network = knowing
    module.val_gap.step = step
    values = validated(tmp_path, module)
    validated(tmp_path, module)
    assert (values["val/condition_gap"] == 0) == fresh
    assert sum("condition ignored: with the condition image of another" in str(e.message) for e in recwarn) == warns
