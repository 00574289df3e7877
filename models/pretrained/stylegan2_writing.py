"""Write StyleGAN2s of ours as the ``.pt`` of rosinality's stylegan2-pytorch, which CDC and MixDL build on."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from tenshot.models.pretrained.filling import refuse_misfit
from tenshot.models.pretrained.stylegan2_names import ROSINALITY, fir_kernel
from tenshot.models.stylegan2 import StyleGAN2Config, StyleGAN2Discriminator, StyleGAN2Generator

__all__ = ["channel_multiplier", "save_rosinality"]

State = Mapping[str, Tensor]


def save_rosinality(
    path: str | Path, config: StyleGAN2Config, average: State, generator: State, discriminator: State | None
) -> None:
    """Write ``g_ema``, ``g``, ``latent_avg`` and, if given, ``d``: that code loads each of them strictly.

    The layout has one average latent: that of ``average``. States of optimisers it has none.

    Args:
        path: The file to write.
        config: The architecture.
        average: Averaged weights of the generator.
        generator: Its weights, to train on from.
        discriminator: Weights of the discriminator.

    Raises:
        InputError: Weights do not fit the architecture, with the keys.
    """
    levels = len(config.resolutions)
    with torch.device("meta"):
        shape = StyleGAN2Generator(config)
        judge = StyleGAN2Discriminator(config)
    content: dict[str, object] = {}
    names = ROSINALITY.generator(levels, config.mapping_layers)
    kernels = [f"convs.{2 * i}.conv.blur.kernel" for i in range(levels - 1)]
    kernels += [f"to_rgbs.{i}.upsample.kernel" for i in range(levels - 1)]
    for part, state in (("g_ema", average), ("g", generator)):
        refuse_misfit(shape, state, f"{path} ({part})")
        content[part] = _renamed(state, names) | {kernel: fir_kernel(ROSINALITY.gain) for kernel in kernels}
    content["latent_avg"] = _own(average["latent_average"])
    if discriminator is not None:
        refuse_misfit(judge, discriminator, f"{path} (d)")
        kernels = [f"convs.{i}.{use}.0.kernel" for i in range(1, levels) for use in ("conv2", "skip")]
        content["d"] = _renamed(discriminator, ROSINALITY.discriminator(levels)) | {
            kernel: fir_kernel(1.0) for kernel in kernels
        }
    torch.save(content, path)


def channel_multiplier(config: StyleGAN2Config) -> int | None:
    """With which that code builds networks of these widths; none where it builds no such."""
    for multiplier in (2, 1):
        published = StyleGAN2Config(image_size=config.image_size, channel_base=16384 * multiplier)
        if all(config.width(resolution) == published.width(resolution) for resolution in config.resolutions):
            return multiplier
    return None


def _renamed(state: State, names: Mapping[str, str]) -> dict[str, Tensor]:
    """Under their names, with their axes of length 1."""
    renamed = {}
    for ours, theirs in names.items():
        value = state[ours]
        if ours.startswith(("layers.", "to_rgb.")) and value.dim() == 4 and ours.endswith(".weight"):
            value = value[None]  # modulated weights have an axis for the batch
        elif ours.startswith("to_rgb.") and ours.count(".") == 2 and ours.endswith(".bias"):
            value = value.view(1, 3, 1, 1)
        renamed[theirs] = _own(value)
    return renamed


def _own(value: Tensor) -> Tensor:
    """In plain memory of its own: a view would drag the whole checkpoint into the file."""
    return value.detach().clone(memory_format=torch.contiguous_format)
