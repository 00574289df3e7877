"""Networks, data, trainers and command lines that take a test no time."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest
import torch
import yaml
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.cli import OptimizerCallable
from safetensors.torch import save_file
from torch import Tensor

from tenshot.callbacks import EMA, NanGuard, StepCheckpoint, StepSeed
from tenshot.datamodules import SyntheticFaces
from tenshot.diffusion import DiffusionConfig
from tenshot.errors import InputError
from tenshot.lightning_modules import DDPM, DDPMPA, NoisyClassifier, Sampler, StyleGAN2
from tenshot.models import StyleGAN2Config, UNetClassifier, UNetConfig
from tenshot.run import AtomicCheckpointIO

M = TypeVar("M", bound=LightningModule)
G = TypeVar("G", bound=StyleGAN2)

UNET: dict[str, Any] = {
    "image_size": 16, "channels": 32, "channel_mult": (1, 2), "num_res_blocks": 1, "attention_resolutions": (8,),
    "head_channels": 32,
}  # fmt: skip
SMALL: dict[str, Any] = {"channel_mult": (1,), "attention_resolutions": ()}
"""Changes of that to one level without attention, which takes half the time and a fifth of the weights."""
STYLEGAN2 = StyleGAN2Config(image_size=32, channel_base=256, max_channels=16, latent_dim=8, mapping_layers=2)
QUICK = Sampler("ddim", "ddim2")

COMMAND_LINE: dict[str, Any] = {
    "model": {
        "class_path": "DDPM",
        "init_args": {
            "unet": UNET | {name: list(value) for name, value in SMALL.items()},
            "sampler": {"method": "ddim", "steps": "ddim2"},
        },
    },
    "data": {
        "class_path": "SyntheticFaces",
        "init_args": {"image_size": 16, "batch_size": 4, "num_images": 12, "num_val": 0},
    },
    "trainer": {"max_steps": 2, "accelerator": "cpu", "enable_progress_bar": False, "enable_model_summary": False},
    "grid": {"every_n_steps": 0},
}


@dataclass(frozen=True)
class Outcome:
    """What a command line did."""

    status: int
    out: str
    err: str
    log: str

    @property
    def complaint(self) -> str:
        """The one line that an error must consist of, without its beginning."""
        lines = [line for line in self.err.splitlines() if line.startswith("tenshot: error: ")]
        assert self.status != 0, self.out
        assert len(lines) == 1, self.err
        assert "Traceback" not in self.err
        assert self.err.splitlines()[-1] == lines[0], self.err
        return lines[0].removeprefix("tenshot: error: ")


Run = Callable[..., Outcome]


def assert_one_line(outcome: Outcome, status: int, message: str) -> None:
    """An outcome is this status and one line, not too long, with this regular expression in it."""
    assert re.search(message, outcome.complaint), outcome.complaint
    assert outcome.status == status
    assert len(re.sub(r"/\S+/", "/", outcome.complaint)) < 400  # without folders: those of tests are long


def refusal(action: Callable[[], object], *words: str) -> str:
    """The one line that an action is refused with, which holds these words."""
    with pytest.raises(InputError) as error:
        action()
    message = str(error.value)
    assert "\n" not in message
    assert all(word in message for word in words), message
    return message


class Bomb:
    """Touches a file if it is unpickled."""

    def __init__(self, fuse: Path) -> None:
        self.fuse = fuse

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.fuse,)


def unet_config(**changes: Any) -> UNetConfig:
    return UNetConfig(**(UNET | changes))


def adam(lr: float = 1e-2) -> OptimizerCallable:
    return lambda params: torch.optim.AdamW(params, lr=lr, weight_decay=0.0)


def ddpm(**arguments: Any) -> DDPM:
    """A method with its network; a fresh one outputs 0, see ``randomised``."""
    module = DDPM(**({"unet": unet_config(), "sampler": QUICK, "optimizer": adam()} | arguments))
    module.configure_model()
    return module


def ddpm_pa(init_from: Path, **arguments: Any) -> DDPMPA:
    """DDPM-PA with its network, from a file of a source."""
    settings = {"init_from": str(init_from), "optimizer": adam(), "sampler": QUICK, "preview_sampler": QUICK}
    module = DDPMPA(**(settings | arguments))
    module.configure_model()
    return module


def classifier(**arguments: Any) -> NoisyClassifier:
    """Of the nine classes of ``faces(labels=True)``."""
    module = NoisyClassifier(**({"classifier": unet_config(out_channels=9), "optimizer": adam()} | arguments))
    module.configure_model()
    return module


def gan(kind: type[G] = StyleGAN2, **arguments: Any) -> G:  # type: ignore[assignment]
    """A GAN method of 32 px with its networks."""
    start = {} if "init_from" in arguments else {"stylegan2": STYLEGAN2}
    module = kind(**(start | arguments))
    torch.manual_seed(0)
    module.configure_model()
    return module


def randomised(module: M, seed: int = 0) -> M:
    """The method with every weight random, none zero, so that nothing agrees vacuously."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        fan_in = max(1, parameter[0].numel()) if parameter.dim() > 1 else 16
        parameter.data = torch.randn(parameter.shape, generator=generator) / fan_in**0.5
    return module


def faces(**arguments: Any) -> SyntheticFaces:
    return SyntheticFaces(**({"image_size": 16, "batch_size": 4, "num_images": 12, "num_val": 0} | arguments))


def trainer(folder: Path, max_steps: int, *callbacks: Callback, ema: EMA | None = None, **arguments: Any) -> Trainer:
    """What the command line sets up, in the same order, without logs and bars."""
    every = [StepSeed(seed=3), NanGuard(), ema or EMA(), *callbacks]
    settings = {
        "accelerator": "cpu", "devices": 1, "logger": False, "enable_progress_bar": False, "num_sanity_val_steps": 0,
        "enable_model_summary": False, "enable_checkpointing": any(isinstance(c, StepCheckpoint) for c in callbacks),
    }  # fmt: skip
    plugins = [AtomicCheckpointIO(), *arguments.pop("plugins", ())]
    return Trainer(
        max_steps=max_steps, default_root_dir=folder, plugins=plugins, callbacks=every, **(settings | arguments)
    )  # fmt: skip


def config_file(folder: Path, *changes: Mapping[str, Any]) -> str:
    """``COMMAND_LINE`` with nested changes, as a file that --config takes."""
    merged: dict[str, Any] = {}
    for change in (COMMAND_LINE, *changes):
        _merge(merged, change)
    return str(write_yaml(folder / f"config{len(list(folder.glob('config*.yaml')))}.yaml", merged))


def write_yaml(path: Path, content: Mapping[str, Any]) -> Path:
    path.write_text(yaml.safe_dump(content))
    return path


def _merge(into: dict[str, Any], change: Mapping[str, Any]) -> None:
    for name, value in change.items():
        if isinstance(value, Mapping) and isinstance(into.get(name), dict):
            _merge(into[name], value)
        else:
            into[name] = deepcopy(value)


def assert_same(ours: Any, theirs: Any, at: str = "") -> None:
    """Equal to the last bit, all the way down."""
    if isinstance(theirs, Tensor):
        assert torch.equal(ours, theirs), f"{at} differs by {(ours - theirs).abs().max()}"
    elif isinstance(theirs, Mapping):
        assert ours.keys() == theirs.keys(), f"{at}: {ours.keys() ^ theirs.keys()}"
        for key in theirs:
            assert_same(ours[key], theirs[key], f"{at}.{key}")
    elif isinstance(theirs, Sequence) and not isinstance(theirs, str):
        assert len(ours) == len(theirs), at
        for number, (a, b) in enumerate(zip(ours, theirs, strict=True)):
            assert_same(a, b, f"{at}.{number}")
    else:
        assert ours == theirs, at


_PUBLIC = (
    (r"time_embedding\.fc1", "time_embed.0"), (r"time_embedding\.fc2", "time_embed.2"),
    (r"class_embedding", "label_emb"), (r"encoder\.stem", "input_blocks.0.0"),
    (r"^norm\b", "out.0"), (r"^conv\b", "out.2"),
    (r"encoder\.middle\.0\.block", "middle_block.0"), (r"encoder\.middle\.0\.attention", "middle_block.1"),
    (r"encoder\.middle\.1\.block", "middle_block.2"),
    (r"encoder\.stages\.(\d+)\.block", lambda m: f"input_blocks.{int(m[1]) + 1}.0"),
    (r"encoder\.stages\.(\d+)\.attention", lambda m: f"input_blocks.{int(m[1]) + 1}.1"),
    (r"decoder\.(\d+)\.block", r"output_blocks.\1.0"), (r"decoder\.(\d+)\.attention", r"output_blocks.\1.1"),
    (r"decoder\.(\d+)\.upsample", lambda m: f"output_blocks.{m[1]}.@"),
    (r"\.norm1\.", ".in_layers.0."), (r"\.conv1\.", ".in_layers.2."), (r"\.embed\.", ".emb_layers.1."),
    (r"\.norm2\.", ".out_layers.0."), (r"\.conv2\.", ".out_layers.3."), (r"\.skip\.", ".skip_connection."),
    (r"\.proj\.", ".proj_out."),
)  # fmt: skip


def public_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of a U-Net of ours under the names and in the shapes of the public code."""
    renamed = {}
    for name, value in state.items():
        for ours, theirs in _PUBLIC:
            name = re.sub(ours, theirs, name)
        if ".@" in name:  # the upsampler follows the attention, where there is one
            block = name.split(".@")[0]
            attends = f"{block.replace('output_blocks', 'decoder')}.attention.norm.weight" in state
            name = name.replace(".@", ".2" if attends else ".1")
        attention = ".qkv." in name or ".proj_out." in name
        renamed[name] = value[..., 0].clone() if attention and value.dim() == 4 else value.clone()
    return renamed


def public_classifier(network: UNetClassifier) -> dict[str, Tensor]:
    """The weights of a classifier of ours as the public code saves them."""
    state = public_state(network.state_dict())
    names = {"pool.qkv": "out.2.qkv_proj", "pool.proj_out": "out.2.c_proj", "pool.posi": "out.2.posi"}
    for ours, theirs in names.items():
        state = {name.replace(ours, theirs): value for name, value in state.items()}
    return state


def process(**changes: Any) -> DiffusionConfig:
    return DiffusionConfig(**({"num_steps": 50} | changes))


def weights_file(path: Path, module: DDPM) -> Path:
    """The weights of a method as ``tenshot convert`` writes them."""
    assert module.diffusion_config is not None
    header = {"unet": asdict(module.unet.config), "diffusion": asdict(module.diffusion_config)}
    state = {name: value.contiguous() for name, value in module.unet.state_dict().items()}
    save_file(state, path, metadata={name: json.dumps(value) for name, value in header.items()})
    return path
