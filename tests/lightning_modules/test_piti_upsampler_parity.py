"""PITI's upsampler against its official code: a training step of both players, and the chain that draws."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import glide_files
import pytest
import tiny
import torch
import torchvision
from lightning.fabric.plugins.environments import MPIEnvironment
from official_code import official, randomised
from official_piti import CONFIG, condition, network, process, sample
from tiny_piti import pairs
from tiny_upsampler import upsampler
from torch import Tensor, nn

import tenshot.lightning_modules.noise_drawing as noise_drawing
from tenshot.diffusion import Denoised
from tenshot.lightning_modules import PatchAdversary, Perceptual, PITIUpsampler, Sampler

LR, SEED = 0.01, 5


@pytest.fixture
def networks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[nn.Module, PITIUpsampler]:
    """The official network, and ours from its file."""
    theirs = network("SuperResText2ImModel", monkeypatch)
    torch.save(theirs.state_dict(), tmp_path / "upsample.pt")
    features: Any = randomised(torchvision.models.vgg.make_layers([64, 64, "M", 128, 128]))
    vgg19 = {f"features.{name}": value for name, value in features.state_dict().items()}
    torch.save(vgg19 | {"features.34.weight": torch.zeros(1)}, tmp_path / "vgg19.pth")  # by which ours is told
    monkeypatch.setattr(torchvision.models, "vgg19", lambda pretrained: SimpleNamespace(features=features))
    ours = upsampler(
        init_from=str(tmp_path / "upsample.pt"), piti=replace(CONFIG, low_res_channels=3), low_res_size=8,
        perceptual=Perceptual(vgg19_weights=str(tmp_path / "vgg19.pth")), adversary=PatchAdversary(),
        sampler=Sampler("ddpm", "fast27", temperature=0.997), optimizer=sgd, optimizer_d=sgd,
    )  # fmt: skip
    return theirs, ours


def sgd(params: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(params, lr=LR)


def adversary(ours: PITIUpsampler, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The official adversarial loss with our discriminator's weights, without processes to average over."""
    adv = official("PITI", "pretrained_diffusion.adv")
    monkeypatch.setattr(adv, "dist_util", SimpleNamespace(dev=lambda: torch.device("cpu")))
    loss = adv.AdversarialLoss.__new__(adv.AdversarialLoss)
    nn.Module.__init__(loss)
    loss.gan_type, loss.gan_k, loss.discriminator = "WGAN_GP", 1, adv.NLayerDiscriminator()
    state = {name.replace("network.", "model."): value for name, value in ours.discriminator.state_dict().items()}
    loss.discriminator.load_state_dict(state)
    loss.optimizer = sgd(loss.discriminator.parameters())
    return loss


def test_a_step_of_both_players_is_the_official_one(networks: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    theirs, ours = networks
    vgg = official("PITI", "pretrained_diffusion.vgg").VGG()
    adv, predict, seen = adversary(ours, monkeypatch), ours.denoiser.predict, list[Denoised]()

    def recording(x0: Tensor, t: Tensor, noise: Tensor, given: Any) -> Denoised:
        seen.append(predict(x0, torch.tensor([12, 340]), noise, given))
        torch.manual_seed(SEED)  # of where the gradient penalty is taken
        return seen[0]

    monkeypatch.setattr(ours.denoiser, "predict", recording)
    monkeypatch.setattr(MPIEnvironment, "detect", lambda: False)  # which would look into the stub of mpi4py
    trainer = tiny.trainer(tmp_path, 1)
    trainer.fit(ours, pairs(image_size=32, condition_size=256, batch_size=2))

    [step] = seen
    assert step.condition is not None
    low_res, mask = step.condition["low_res"], step.condition["condition_image"] / 127.5 - 1
    torch.manual_seed(SEED)
    expected = process("linear").training_losses(
        theirs, step.x0, step.t, vgg, adv, model_kwargs={"ref": mask, "low_res": low_res}, noise=step.noise
    )
    expected["loss"].mean().backward()
    for name, official_name in (("mse", "mse"), ("vb", "vb"), ("perceptual", "perceptual"), ("adversarial", "adv")):
        found = trainer.callback_metrics[f"train/{name}"]
        torch.testing.assert_close(found, expected[official_name].mean().detach(), rtol=1e-4, atol=0, msg=name)
        assert found.abs() > 1e-4, name
    ours_d = ours.discriminator.state_dict()
    for name, value in adv.discriminator.state_dict().items():
        torch.testing.assert_close(ours_d[name.replace("model.", "network.")], value, rtol=1e-4, atol=1e-6)
    after = glide_files.public(ours.unet)
    for name, weight in theirs.named_parameters():
        gradient = torch.zeros_like(weight) if weight.grad is None else weight.grad
        moved = (weight.detach() - after[name].view_as(weight)) / LR
        torch.testing.assert_close(moved, gradient, rtol=1e-3, atol=2e-4 * float(gradient.abs().max()) + 2e-5, msg=name)


def test_a_chain_is_that_of_the_official_sampler(networks: Any, monkeypatch: pytest.MonkeyPatch):
    theirs, ours = networks
    small = torch.randint(256, (2, 3, 8, 8), generator=torch.Generator().manual_seed(2)) / 127.5 - 1
    told = {"ref": condition() / 127.5 - 1, "low_res": small}
    torch.manual_seed(SEED)
    how = {"prediction_respacing": "fast27", "upsample_enabled": True}
    expected = sample(theirs, "linear", told, monkeypatch, **how)

    class Official:
        """Noise as the official sampler draws it, of both images at once."""

        def __init__(self, seeds: Tensor, device: torch.device) -> None:
            torch.manual_seed(SEED)

        def normal(self, *shape: int) -> Tensor:
            return torch.randn(2, *shape)

        def normal_like(self, x: Tensor) -> Tensor:
            return torch.randn_like(x)

    monkeypatch.setattr(noise_drawing, "SeededNoise", Official)
    monkeypatch.setattr("tenshot.distributed.seeding.CPU_BATCH", 2)
    given = {"low_res": small, "condition_image": condition()}
    drawn = ours.sample(torch.arange(2), given)
    assert 0.05 < drawn.std() < 1
    torch.testing.assert_close(drawn, expected.clamp(-1, 1), atol=1e-4, rtol=0)
    assert (ours.sample(torch.arange(2), given | {"low_res": small.flip(0)}) - drawn).abs().max() > 0.1
    assert (ours.sample(torch.arange(2), given | {"condition_image": condition().flip(0)}) - drawn).abs().max() > 0.01
