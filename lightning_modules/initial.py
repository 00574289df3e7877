"""Where a diffusion model starts from: our checkpoints, converted ones, and the public ones."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from tenshot.diffusion import DiffusionConfig
from tenshot.errors import InputError
from tenshot.lightning_modules.runs import checkpoint_file
from tenshot.models import UNetConfig
from tenshot.models.pretrained import read_adm, read_checkpoint, safetensors_metadata

__all__ = ["Initial", "Weights", "description", "initial_from", "refuse_other_network"]

Weights = Literal["ema", "raw"]


@dataclass(frozen=True)
class Initial:
    """A trained diffusion U-Net.

    Args:
        path: The file it came from.
        unet: Its architecture.
        diffusion: The process it was trained with; none where the file does not tell.
        state: Its weights.
        origin: What was read, in words, for the log.
    """

    path: str
    unet: UNetConfig
    diffusion: DiffusionConfig | None
    state: Mapping[str, Tensor]
    origin: str


def initial_from(path: str, weights: Weights, allow_pickle: bool, overrides: Mapping[str, Any]) -> Initial:
    """Read a trained U-Net from one of three kinds of file.

    Args:
        path: A checkpoint of ``tenshot fit`` or the folder of its run, the ``.safetensors`` of ``tenshot convert``,
            or a public ``.pt``.
        weights: Which weights of a checkpoint of ours; one without an average has only raw ones.
        allow_pickle: Also read files that may run code of their author.
        overrides: Fields of UNetConfig for a public file whose shapes do not tell them.

    Raises:
        InputError: The file cannot be read, or holds another kind of model.
    """
    path = str(checkpoint_file(path))
    content = read_checkpoint(path, allow_pickle)
    if Path(path).suffix == ".safetensors":
        meta = safetensors_metadata(path)
        if "unet" not in meta:
            raise InputError(f"{path}: has no U-Net configuration in its header: write it with tenshot convert")
        process = DiffusionConfig(**meta["diffusion"]) if meta.get("diffusion") else None
        return Initial(path, UNetConfig(**meta["unet"]), process, content, "converted weights")
    if "pytorch-lightning_version" in content:
        ours = content.get("tenshot", {})
        if "unet" not in ours:
            raise InputError(
                f"{path}: a checkpoint of {ours.get('method', 'another program')}, which has no diffusion U-Net"
            )
        ema = content.get("ema")
        if weights == "ema" and ema is not None:
            state, origin = ema["weights"]["unet"], f"averaged weights ({ema['updates']} updates)"
        else:
            prefix = "unet."
            state = {k.removeprefix(prefix): v for k, v in content["state_dict"].items() if k.startswith(prefix)}
            origin = "raw weights"
        origin += f" of step {content['global_step']}"
        return Initial(path, UNetConfig(**ours["unet"]), DiffusionConfig(**ours["diffusion"]), state, origin)
    adm = read_adm(content, name=path, **overrides)
    process = None
    if adm.public is not None:
        process = DiffusionConfig(
            num_steps=adm.public.num_steps,
            schedule=adm.public.schedule,
            variance="learned_range" if adm.config.out_channels == 2 * adm.config.in_channels else "fixed_large",
            rescale_timesteps=adm.public.rescale_timesteps,
        )
    heads = (
        f"{adm.config.head_channels} channels a head" if adm.config.head_channels else f"{adm.config.num_heads} heads"
    )
    name = f"weights of {adm.public.names[0]}, by their shapes" if adm.public else "foreign weights"
    name += f" ({heads}, {adm.config.attention_order} attention order, dropout {adm.config.dropout})"
    return Initial(path, adm.config, process, adm.state, name)


def description(unet: UNetConfig, diffusion: DiffusionConfig, method: str) -> dict[str, Any]:
    """What a checkpoint of ours says of itself, in plain numbers and strings."""
    return {"method": method, "unet": _plain(asdict(unet)), "diffusion": asdict(diffusion)}


def refuse_other_network(
    checkpoint: Mapping[str, Any], where: str, unet: UNetConfig, diffusion: DiffusionConfig
) -> None:
    """Compare a checkpoint that is to be resumed or evaluated with what the configuration asks for.

    Raises:
        InputError: It is not of a diffusion U-Net, or of another one. Dropout and recomputation may differ.
    """
    ours = checkpoint.get("tenshot", {})
    if "unet" not in ours:
        raise InputError(
            f"{where}: a checkpoint of {ours.get('method', 'another program')}, which has no diffusion U-Net: "
            "give another --ckpt_path"
        )
    found, asked = UNetConfig(**ours["unet"]), asdict(unet)
    differ = [
        f"{name} {value} (here {asked[name]})"
        for name, value in asdict(found).items()
        if value != asked[name] and name not in ("dropout", "checkpoint_blocks")
    ]
    if differ:
        raise InputError(
            f"{where}: a checkpoint of another network, with unet.{', unet.'.join(differ)}: give the configuration of "
            "its run, or start from its weights with --model.init_from"
        )
    if DiffusionConfig(**ours["diffusion"]) != diffusion:
        rank_zero_warn(f"{where} was trained with {DiffusionConfig(**ours['diffusion'])}, not {diffusion}")


def _plain(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: list(value) if isinstance(value, tuple) else value for name, value in fields.items()}
