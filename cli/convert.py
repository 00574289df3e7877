"""``tenshot convert``: public or tenshot checkpoints as safetensors with their configuration, and StyleGAN2s back."""

import json
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import auto_cli
from safetensors.torch import save_file
from torch import Tensor

from tenshot.checkpoints import Trained, Weights, describe, read
from tenshot.checkpoints.adapted import ADAPTED_FROM
from tenshot.checkpoints.adapters import adapter_of
from tenshot.checkpoints.registry import kind_in
from tenshot.cli.parser import Parser
from tenshot.cli.renamed_options import without_former_options
from tenshot.diffusion import DiffusionConfig
from tenshot.errors import InputError
from tenshot.models.blocks import AttentionOrder

__all__ = ["convert", "convert_file"]


def convert_file(
    source: str,
    output: str,
    weights: Weights = "ema",
    image_size: int | None = None,
    num_res_blocks: int | None = None,
    num_heads: int | None = None,
    head_channels: int | None = None,
    attention_order: AttentionOrder | None = None,
    dropout: float | None = None,
    half: bool = False,
    diffusion: DiffusionConfig | None = None,
    adapter: bool = False,
    adapted_from: str | None = None,
) -> None:
    """Write a network as safetensors, with its architecture, and its noise process if it has one, in the header.

    SOURCE holds a diffusion U-Net, a classifier of noisy images, a GLIDE, a PITI or a StyleGAN2.

    Beside OUTPUT.safetensors stands OUTPUT.yaml, a --config for tenshot fit that starts from it.

    A run with --model.adapt becomes a plain network, with what was trained in its weights; with --adapter true a file
    of what was trained alone, which goes with what was adapted: that is looked for where it was.

    A StyleGAN2 is also written as OUTPUT.pt, in the layout of rosinality's code, which CDC and MixDL read too.

    Args:
        source: A checkpoint of tenshot or the folder of its run, or a public checkpoint: of guided-diffusion,
            improved-diffusion, GLIDE or PITI, or a StyleGAN2 of rosinality's, CDC's, MixDL's (.pt) or NVlabs' (.pkl)
            code.
        output: The file to write, ending in .safetensors; of a StyleGAN2 also in .pt, for averaged and raw weights.
        weights: Averaged or raw weights.
        image_size: Side of the training images, where neither the file nor the table of public checkpoints tells.
        num_res_blocks: Residual blocks a level of a classifier, likewise.
        num_heads: Attention heads, likewise.
        head_channels: Channels a head, likewise.
        attention_order: Layout of the attention projection, likewise.
        dropout: Dropout probability, likewise.
        half: Write safetensors of 16 bits a weight, half the size; what starts from them trains in full precision.
        diffusion: The noise process, likewise.
        adapter: Write what --model.adapt trained alone.
        adapted_from: What was adapted, where that is elsewhere now.

    Raises:
        InputError: The source cannot be read, or the output is named otherwise.
    """
    target, kind = Path(output), kind_in(source)
    told = {
        "image_size": image_size, "num_res_blocks": num_res_blocks, "num_heads": num_heads,
        "head_channels": head_channels, "attention_order": attention_order, "dropout": dropout,
    }  # fmt: skip
    told = {name: value for name, value in told.items() if value is not None}
    foreign = [name for name in told if name not in kind.options]
    foreign += ["diffusion"] if diffusion and not kind.diffuses else []
    if foreign:
        raise InputError(f"{source}: holds a {kind.words}, for which there is no --{foreign[0]}: leave it out")
    if target.suffix not in (".safetensors", *kind.exports):
        endings = " or ".join((".safetensors", *kind.exports))
        raise InputError(f"{output}: name the file to write with the ending {endings}")
    if adapter:
        foreign = [*told, *(["diffusion"] if diffusion else [])]
        if foreign or target.suffix != ".safetensors":
            wrong = f"leave out --{foreign[0]}" if foreign else "name the file to write with the ending .safetensors"
            raise InputError(f"{source}: --adapter writes what was trained, and nothing else: {wrong}")
        state, about = adapter_of(source, kind, weights, adapted_from)
        origin = f"to go with {about[ADAPTED_FROM]['path']} (weights of sha256 {about[ADAPTED_FROM]['sha256'][:12]}…)"
        _write(target, state, about, half, f"{origin}, {sum(value.numel() for value in state.values()):,} numbers")
    elif target.suffix in kind.exports:
        average, raw = (read(source, kind, which, told, adapted_from) for which in ("ema", "raw"))
        target.parent.mkdir(parents=True, exist_ok=True)
        print(*kind.exports[target.suffix](target, average, raw), sep="\n")
    else:
        _to_safetensors(read(source, kind, weights, told, adapted_from), target, diffusion, half)


def _to_safetensors(trained: Trained[Any], target: Path, diffusion: DiffusionConfig | None, half: bool) -> None:
    """Write networks with what they are, and the configuration that starts from them."""
    kind, process = trained.kind, diffusion or trained.diffusion
    if kind.diffuses and process is None:
        raise InputError(
            f"{trained.path}: does not tell its noise process: give --diffusion.schedule and --diffusion.num_steps"
        )
    state: dict[str, Tensor] = {}
    for name in trained.states:
        network = kind.networks[name](trained.config)
        trained.fill(name, network)
        prefix = "" if len(kind.networks) == 1 else f"{name}."
        # safetensors keeps no memory format: the network restores channels_last when it is filled
        state |= {f"{prefix}{key}": value.contiguous() for key, value in network.state_dict().items()}
    about = describe(kind, trained.config, trained.method, process, trained.stage)
    parameters = sum(value.numel() for value in state.values())
    _write(target, state, about, half, f"{trained.origin}, {parameters:,} parameters of {' and '.join(trained.states)}")


def _write(target: Path, state: dict[str, Tensor], about: dict[str, Any], half: bool, said: str) -> None:
    """Write weights with what they are, and the configuration that starts from them."""
    if half:
        state = {key: value.half() if value.is_floating_point() else value for key, value in state.items()}
    config = yaml.safe_dump(
        {"model": {"class_path": about["method"], "init_args": {"init_from": str(target)}}}, sort_keys=False
    )
    recipe = target.with_suffix(".yaml")
    if recipe.exists() and recipe.read_text() != config:
        raise InputError(f"{recipe}: is there, and another configuration than would be written: name another output")
    target.parent.mkdir(parents=True, exist_ok=True)
    save_file(state, target, metadata={name: json.dumps(value) for name, value in about.items()})
    recipe.write_text(config)
    print(f"{target}: {said}")
    print(f"start from it with tenshot fit --config {recipe} …")


def convert(argv: list[str]) -> None:
    """Run ``tenshot convert`` with the arguments after it."""
    about = (convert_file.__doc__ or "").split("\n\n    Args:")[0]
    auto_cli(
        convert_file,
        args=without_former_options(argv),
        prog="tenshot convert",
        description=about,
        as_positional=True,
        parser_class=Parser,
    )
