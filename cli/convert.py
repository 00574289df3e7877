"""``tenshot convert``: public or tenshot checkpoints as safetensors with their configuration."""

import json
from pathlib import Path

import yaml
from jsonargparse import auto_cli
from safetensors.torch import save_file

from tenshot.cli.parser import Parser
from tenshot.diffusion import DiffusionConfig
from tenshot.errors import InputError
from tenshot.lightning_modules.initial import Weights, description, initial_from, part_in
from tenshot.models import UNet, UNetClassifier
from tenshot.models.blocks import AttentionOrder
from tenshot.models.pretrained import fill

__all__ = ["convert", "convert_unet"]


def convert_unet(
    source: str,
    output: str,
    weights: Weights = "ema",
    image_size: int | None = None,
    num_res_blocks: int | None = None,
    num_heads: int | None = None,
    head_channels: int | None = None,
    attention_order: AttentionOrder | None = None,
    dropout: float | None = None,
    diffusion: DiffusionConfig | None = None,
    allow_pickle: bool = False,
) -> None:
    """Write a diffusion U-Net as safetensors, with its architecture and noise process in the header.

    Or a classifier of noisy pictures, where SOURCE holds one.

    Beside OUTPUT.safetensors stands OUTPUT.yaml, a --config for tenshot fit that starts from it.

    Args:
        source: A checkpoint of tenshot or the folder of its run, or a public guided-diffusion or improved-diffusion
            checkpoint.
        output: The file to write, ending in .safetensors.
        weights: Averaged or raw weights of a tenshot checkpoint.
        image_size: Side of the training pictures, where neither the file nor the table of public checkpoints tells.
        num_res_blocks: Residual blocks a level of a classifier, likewise.
        num_heads: Attention heads, likewise.
        head_channels: Channels a head, likewise.
        attention_order: Layout of the attention projection, likewise.
        dropout: Dropout probability, likewise.
        diffusion: The noise process, likewise.
        allow_pickle: Also read files that may run code of their author.

    Raises:
        InputError: The source cannot be read, or the output is not named .safetensors.
    """
    target = Path(output)
    if target.suffix != ".safetensors":
        raise InputError(f"{output}: name the file to write with the ending .safetensors")
    told = {
        "image_size": image_size, "num_res_blocks": num_res_blocks, "num_heads": num_heads,
        "head_channels": head_channels, "attention_order": attention_order, "dropout": dropout,
    }  # fmt: skip
    part = part_in(source, allow_pickle)
    initial = initial_from(source, weights, allow_pickle, {k: v for k, v in told.items() if v is not None}, part)
    process = diffusion or initial.diffusion
    if process is None:
        raise InputError(
            f"{source}: does not tell its noise process: give --diffusion.schedule and --diffusion.num_steps"
        )
    kind, method = (UNet, "DDPM") if part == "unet" else (UNetClassifier, "NoisyClassifier")
    network = fill(kind(initial.unet), initial.state, initial.path)
    about = description(initial.unet, process, method, part)
    target.parent.mkdir(parents=True, exist_ok=True)
    # safetensors keeps no memory format: the network restores channels_last when it is filled
    state = {name: value.contiguous() for name, value in network.state_dict().items()}
    save_file(state, target, metadata={name: json.dumps(value) for name, value in about.items()})
    config = {"model": {"class_path": method, "init_args": {"init_from": str(target)}}}
    target.with_suffix(".yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    parameters = sum(value.numel() for value in state.values())
    print(f"{target}: {initial.origin}, {parameters:,} parameters")
    print(f"start from it with tenshot fit --config {target.with_suffix('.yaml')} …")


def convert(words: list[str]) -> None:
    """Run ``tenshot convert`` with the words after it."""
    about = (convert_unet.__doc__ or "").split("\n\n    Args:")[0]
    auto_cli(
        convert_unet, args=words, prog="tenshot convert", description=about, as_positional=True, parser_class=Parser
    )
