"""DDPM guided by a classifier of noisy images."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from torch import Tensor

from tenshot.callbacks import EMA, StepCheckpoint
from tenshot.diffusion import Denoiser, DiffusionConfig
from tenshot.distributed.seeding import SeededNoise
from tenshot.errors import InputError
from tenshot.lightning_modules import DDPM, ClassifierGuidance, NoisyClassifier, Sampler

SCALE = 300.0


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of a classifier of nine classes, whose averaged and raw weights differ."""
    folder = tmp_path_factory.mktemp("classifier")
    module = tiny.randomised(tiny.classifier())
    tiny.trainer(folder, 2, StepCheckpoint(), ema=EMA(0.9)).fit(module, tiny.faces(labels=True))
    return folder


def guided(path: Path, conditional: bool = False, scale: float = SCALE, **arguments: Any) -> DDPM:
    network = tiny.unet_config(num_classes=9 if conditional else None)
    guidance = ClassifierGuidance(str(path), scale)
    return tiny.randomised(tiny.ddpm(**({"unet": network, "guidance": guidance} | arguments)))


@pytest.mark.parametrize("conditional", [True, False])
def test_images_are_those_of_the_published_loop(run: Path, conditional: bool):
    """Algorithm 2 of ADM with the scale that its code has, over two steps of the 1000."""
    module = guided(run, conditional)
    judge = NoisyClassifier(init_from=str(run))  # averaged weights
    judge.configure_model()
    judge.classifier.eval()
    module.unet.eval()
    seeds, labels = torch.tensor([4, 9, 2, 7]), torch.tensor([3, 0, 8, 3])

    alpha_bar = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))
    x = SeededNoise(seeds, torch.device("cpu")).normal(3, 16, 16)
    for t, previous in ((500, 0), (0, None)):
        now, then = alpha_bar[t], 1.0 if previous is None else alpha_bar[previous]
        times = torch.full((4,), t)
        leaf = x.clone().requires_grad_()
        log_probability = judge.classifier(leaf, times).log_softmax(1)[range(4), labels]
        pull = torch.autograd.grad(log_probability.sum(), leaf)[0]
        with torch.no_grad():
            eps = module.unet(x, times, labels if conditional else None)[:, :3]
        x0 = ((x - (1 - now) ** 0.5 * eps) / now**0.5).clamp(-1, 1)
        eps = (x - now**0.5 * x0) / (1 - now) ** 0.5 - (1 - now) ** 0.5 * SCALE * pull
        x0 = (x - (1 - now) ** 0.5 * eps) / now**0.5
        x = then**0.5 * x0 + (1 - then) ** 0.5 * eps

    drawn = module.sample(seeds, {"label": labels})
    torch.testing.assert_close(drawn, x.clamp(-1, 1), rtol=1e-3, atol=1e-4)
    assert (drawn - guided(run, conditional, scale=0.0).sample(seeds, {"label": labels})).abs().max() > 0.05


@pytest.mark.parametrize("method", [Sampler("ddpm", "2"), Sampler("ddim", "ddim2", eta=0.5), Sampler("dpm_solver", 2)])
def test_an_image_depends_on_its_seed_alone_to_the_last_bit(run: Path, method: Sampler):
    module = guided(run, sampler=method)
    seeds = torch.tensor([4, 9, 2, 7, 5])
    together = module.sample(seeds)
    assert torch.equal(torch.cat([module.sample(part) for part in seeds.split(2)]), together)
    assert not together.requires_grad


@pytest.mark.parametrize("conditional", [True, False])
def test_classes_nobody_asked_for_are_drawn_by_the_seed(run: Path, conditional: bool, monkeypatch: pytest.MonkeyPatch):
    module, asked = guided(run, conditional), []
    assert module.guide is not None
    guided_towards = module.guide.guided

    def note(denoiser: Denoiser, labels: Tensor) -> Any:
        asked.append(labels)
        return guided_towards(denoiser, labels)

    monkeypatch.setattr(module.guide, "guided", note)
    images = module.sample(torch.arange(12))
    labels = torch.cat(asked)
    assert len(labels.unique()) > 3
    assert 0 <= labels.min() <= labels.max() <= 8
    asked.clear()
    assert torch.equal(module.sample(torch.tensor([7])), images[7:8])
    assert asked[0][0] == labels[7]


def test_the_classifier_is_frozen_and_nowhere_among_the_weights(run: Path, tmp_path: Path):
    module, ema = guided(run, conditional=True), EMA(0.9)
    assert module.guide is not None
    before = {name: value.clone() for name, value in module.guide.network.state_dict().items()}
    tiny.trainer(tmp_path, 1, StepCheckpoint(), ema=ema).fit(module, tiny.faces(labels=True))
    content = torch.load(tmp_path / "checkpoints" / "step=00000001.ckpt", weights_only=True)

    tiny.assert_same(module.guide.network.state_dict(), before)
    assert not module.guide.network.training
    assert {name.split(".")[0] for name, _ in module.named_parameters()} == {"unet"}
    assert {name.split(".")[0] for name in content["state_dict"]} == {"unet"}
    assert ema.average.keys() == {"unet"}


# What cannot be


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"unet": tiny.unet_config(image_size=32)}, r"with image_size 16 \(the diffusion model: 32\)"),
        ({"unet": tiny.unet_config(num_classes=8)}, r"with classes 9 \(the diffusion model: 8\)"),
        ({"unet": tiny.unet_config(in_channels=1, out_channels=2)}, r"with in_channels 3 \(the diffusion model: 1\)"),
        (
            {"diffusion": DiffusionConfig(schedule="cosine")},
            r"diffusion\.schedule linear \(the diffusion model: cosine",
        ),
        ({"diffusion": tiny.process()}, r"diffusion\.num_steps 1000 \(the diffusion model: 50\)"),
        ({"diffusion": DiffusionConfig(rescale_timesteps=True)}, r"diffusion\.rescale_timesteps False"),
    ],
)
def test_a_classifier_of_other_images_classes_or_noise(run: Path, changes: dict[str, Any], message: str):
    with pytest.raises(InputError, match=message) as raised:
        guided(run, **changes)
    assert "\n" not in str(raised.value)
    assert "give one of this kind with --model.guidance.classifier" in str(raised.value)


def test_what_the_network_predicts_is_no_matter_of_the_classifier(run: Path):
    process = DiffusionConfig(variance="fixed_large", prediction="velocity")
    assert guided(run, unet=tiny.unet_config(out_channels=3), diffusion=process).guide is not None


def test_no_classifier(tmp_path: Path):
    with pytest.raises(InputError, match="no such checkpoint file or run folder"):
        guided(tmp_path / "nowhere")
    weights = tiny.weights_file(tmp_path / "unet.safetensors", tiny.ddpm())
    with pytest.raises(InputError, match="which has no classifier of noisy images"):
        guided(weights)
