"""A trainer builds networks with its GPU as the default device; here that device is ``meta``, which holds no numbers.

What is read from a file or drawn from a seed must be read and drawn on the CPU all the same.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import glide_files
import nvlabs_files
import pytest
import stylegan2_files
import tiny
import tiny_piti
import tiny_stages
import tiny_upsampler
import torch
from lightning.pytorch import LightningModule
from torch import Tensor
from torch.overrides import TorchFunctionMode

from tenshot.callbacks import StepCheckpoint
from tenshot.checkpoints import read
from tenshot.lightning_modules import (
    CDC,
    DDPM,
    DDPMPA,
    PITI,
    Cascade,
    CascadeStage,
    ClassifierGuidance,
    DensePredictor,
    MixDL,
    NoisyClassifier,
    PITIUpsampler,
    StyleGAN2,
    SuperResolution,
)
from tenshot.models import Adaptation
from tenshot.models.augmentation import AdaptiveAugment, DiffAugment

pytestmark = pytest.mark.filterwarnings("ignore:.*copying from a non-meta parameter")
GANS = ("rosinality.pt", "legacy.pt", "nvlabs.pkl", "gan.ckpt")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every kind of file that a method starts from."""
    folder = tmp_path_factory.mktemp("files")
    gan = stylegan2_files.checkpoint()
    torch.save(gan, folder / "rosinality.pt")
    torch.save({"g": stylegan2_files.generator_state()}, folder / "legacy.pt", _use_new_zipfile_serialization=False)
    generator = nvlabs_files.nvlabs_state(gan["g_ema"], torch.ones(stylegan2_files.DIM))
    discriminator = nvlabs_files.nvlabs_discriminator(gan["d"])
    networks = {
        name: nvlabs_files.network(kind, state, c_dim=0)
        for name, kind, state in (("G_ema", "Generator", generator), ("D", "Discriminator", discriminator))
    }
    nvlabs_files.dump(networks, folder / "nvlabs.pkl")
    tiny_stages.saved(folder, tiny.randomised(tiny_stages.stage()))
    tiny_piti.public_file(folder / "base.pt", glide_files.glide())
    small: dict[str, Any] = {"channel_mult": (1,), "attention_resolutions": (), **glide_files.UPSAMPLER}
    tiny_piti.public_file(folder / "upsample.pt", glide_files.glide(**small))
    own = tiny.randomised(tiny.ddpm())
    tiny.weights_file(folder / "converted.safetensors", own)
    torch.save(tiny.public_state(own.unet.state_dict()), folder / "adm.pt")
    network = tiny.unet_config(channels=64, channel_mult=(1, 1), head_channels=64, out_channels=9)
    torch.save(tiny.public_classifier(tiny.classifier(classifier=network).classifier), folder / "classifier.pt")
    for name, module in {"gan": tiny.gan(), "classifier": tiny.classifier(classifier=network)}.items():
        data = tiny.faces(image_size=32) if name == "gan" else tiny.faces(labels=True)
        tiny.trainer(folder / name, 1, StepCheckpoint()).fit(module, data)
        (folder / name / "checkpoints" / "step=00000001.ckpt").rename(folder / f"{name}.ckpt")
    return folder


class LikeCUDA(TorchFunctionMode):
    """Refuse a generator of another device, as CUDA does and ``meta`` does not."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        generator = (kwargs or {}).get("generator")
        if generator is not None and isinstance(out, Tensor) and out.device.type != generator.device.type:
            raise RuntimeError(f"Expected a '{out.device.type}' device type for generator")
        return out


@contextmanager
def another_device() -> Iterator[None]:
    with LikeCUDA(), torch.device("meta"):
        yield


def gan(kind: type[StyleGAN2], **options: Any) -> Callable[[Path], StyleGAN2]:
    start = {} if "init_from" in options else {"stylegan2": tiny.STYLEGAN2}

    def make(folder: Path) -> StyleGAN2:
        given = options | ({"init_from": str(folder / options["init_from"])} if "init_from" in options else {})
        return kind(**start, **given)

    return make


def diffusion(kind: type[DDPM], start: str | None, **options: Any) -> Callable[[Path], DDPM]:
    def make(folder: Path) -> DDPM:
        if start is None:
            return kind(unet=tiny.unet_config(), **options)
        process = None if start.endswith(".safetensors") else tiny.process()
        return kind(unet=tiny.unet_config(), init_from=str(folder / start), diffusion=process, **options)

    return make


def guided(folder: Path) -> DDPM:
    guidance = ClassifierGuidance(str(folder / "classifier.ckpt"))
    return DDPM(unet=tiny.unet_config(num_classes=9), guidance=guidance)


def noisy_classifier(folder: Path) -> NoisyClassifier:
    config = tiny.unet_config(channels=64, channel_mult=(1, 1), head_channels=64, out_channels=9)
    return NoisyClassifier(classifier=config, init_from=str(folder / "classifier.pt"), diffusion=tiny.process())


def super_resolution(start: str | None = None, **options: Any) -> Callable[[Path], SuperResolution]:
    def make(folder: Path) -> SuperResolution:
        init_from = None if start is None else str(folder / start)
        return SuperResolution(init_from=init_from, augmentation=tiny_stages.NOISY, **options)

    return make


METHODS: dict[str, Callable[[Path], LightningModule]] = {
    "DDPM": diffusion(DDPM, None),
    "DDPM of adm.pt": diffusion(DDPM, "adm.pt"),
    "DDPM of converted.safetensors": diffusion(DDPM, "converted.safetensors"),
    "DDPM by LoRA": diffusion(DDPM, "converted.safetensors", adapt=Adaptation(rank=2)),
    "DDPM with a classifier": guided,
    "DDPMPA": diffusion(DDPMPA, "adm.pt"),
    "NoisyClassifier": lambda folder: NoisyClassifier(classifier=tiny.unet_config(out_channels=9)),
    "NoisyClassifier of classifier.pt": noisy_classifier,
    "DensePredictor": lambda folder: DensePredictor(tiny.unet_config(out_channels=9)),
    "SuperResolution": super_resolution(unet=tiny.unet_config(), low_res_size=8),
    "SuperResolution of saved.ckpt, and told s": super_resolution("saved.ckpt"),
    "PITI": lambda folder: PITI(piti=tiny_piti.CONFIG, stage=2),
    "PITI of base.pt": lambda folder: PITI(piti=tiny_piti.CONFIG, init_from=str(folder / "base.pt")),
    "PITI of converted.safetensors": lambda folder: PITI(
        piti=tiny_piti.CONFIG, init_from=str(folder / "converted.safetensors"), adapt_context=True,
        diffusion=tiny.process(),
    ),
    "PITIUpsampler": lambda folder: PITIUpsampler(piti=tiny_upsampler.CONFIG),
    "PITIUpsampler of upsample.pt": lambda folder: PITIUpsampler(
        piti=tiny_upsampler.CONFIG, init_from=str(folder / "upsample.pt")
    ),
    "StyleGAN2": gan(StyleGAN2),
    "StyleGAN2 with ADA": gan(StyleGAN2, augmentation=AdaptiveAugment()),
    "StyleGAN2 with DiffAugment": gan(StyleGAN2, augmentation=DiffAugment()),
    **{f"StyleGAN2 of {name}": gan(StyleGAN2, init_from=name) for name in GANS},
    "CDC": gan(CDC, init_from="gan.ckpt"),
    "CDC by LoRA": gan(CDC, init_from="gan.ckpt", adapt=Adaptation(rank=2)),
    "MixDL": gan(MixDL),
}  # fmt: skip


@pytest.mark.parametrize("method", METHODS)
def test_every_method_builds_its_networks_on_any_default_device(files: Path, method: str):
    module = METHODS[method](files)
    before = module.state_dict().keys()
    with another_device():
        module.configure_model()
    built = {name: value.device.type for name, value in module.state_dict().items() if name not in before}
    assert set(built.values()) == {"meta"}


def test_a_cascade_is_built_on_the_cpu(files: Path, tmp_path: Path):
    """Only what draws goes to the device."""
    base = tiny.weights_file(tmp_path / "base.safetensors", tiny.ddpm(unet=tiny.unet_config(image_size=8)))
    cascade = Cascade(str(base), [CascadeStage(str(files / "saved.ckpt"))])
    with another_device():
        cascade.configure_model()
    for generator in cascade.generators:
        assert {value.device.type for value in generator.state_dict().values()} == {"cpu"}


@pytest.mark.parametrize("name", [*GANS, "adm.pt", "converted.safetensors", "classifier.pt", "classifier.ckpt"])
def test_files_are_read_on_the_cpu(files: Path, name: str):
    told = {"classifier.pt": {"num_res_blocks": 1}, "adm.pt": asdict(tiny.unet_config())}.get(name, {})
    expected = read(str(files / name), told=told).states
    with another_device():
        found = read(str(files / name), told=told).states
    tiny.assert_same(found, expected)
