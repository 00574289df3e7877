"""The variational bound of a cascade, and the parts of it that belong to its base and stages (CDM, section 4)."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from itertools import pairwise

import torch
from torch import Tensor

from tenshot.datamodules.pixels import from_pixels, to_pixels
from tenshot.diffusion import Denoiser, GaussianDiffusion, bits_per_dim
from tenshot.errors import InputError
from tenshot.lightning_modules.cascade_conditions import told_to
from tenshot.lightning_modules.cascade_stage import Generator, Stage
from tenshot.lightning_modules.ddpm import DDPM
from tenshot.lightning_modules.super_resolution import SuperResolution

__all__ = ["parts_of_bound", "refuse_without_bound", "sizes_of"]


def refuse_without_bound(generators: Sequence[Generator]) -> None:
    """See that there is a bound: each chain begins with noise alone, and passes through the z_s of the stage after it.

    Args:
        generators: The base and the stages.

    Raises:
        InputError: One has none.
    """
    if not isinstance(generators[0], DDPM):
        name = type(generators[0]).__name__
        raise InputError(f"the cascade has no bits per dimension: its base is of {name}, which has no likelihood")
    for number, (before, stage) in enumerate(pairwise(generators)):
        assert isinstance(before, DDPM)
        if not isinstance(stage, SuperResolution):
            continue
        told, noise = f"the cascade has no bits per dimension: --model.stages[{number}]", stage.augmentation.noise
        if stage.start_step is not None:
            raise InputError(f"{told}.start_step begins from an image, not from noise alone: drop it")
        if stage.drawn_s == 0 or noise is None:
            continue
        theirs, ours = ((process.num_steps, process.schedule) for process in (before.diffusion.config, noise))
        if theirs != ours:
            raise InputError(
                f"{told} counts s in {ours[0]} steps, {ours[1]}, but what comes before it has {theirs[0]} steps, "
                f"{theirs[1]}, and does not pass through z_s: set augmentation_s 0, if it was trained with that"
            )


def sizes_of(generators: Sequence[Generator], images: Tensor) -> list[Tensor]:
    """The images (N, C, H, W) of each generator, made of true ones of the last; of 256 levels, as training sets are."""
    of_each = [images]
    for stage in reversed(generators[1:]):
        assert isinstance(stage, Stage)
        of_each.append(from_pixels(to_pixels(stage.condition_from(of_each[-1])["low_res"])))
    return of_each[::-1]


def parts_of_bound(
    generators: Sequence[Generator],
    on_device: Callable[[Generator], AbstractContextManager[Generator]],
    images: Tensor,
    condition: Mapping[str, Tensor],
    steps: str,
) -> list[tuple[Tensor, int]]:
    """What the base and each stage add to the bound. Guidance does not count.

    Args:
        generators: The base and the stages.
        on_device: Puts one on the device of the images.
        images: (N, C, H, W) in [-1, 1], true ones of the last stage's size.
        condition: The class, ``label`` (N,), where there are classes; ``condition_image``, where any draws from it.
        steps: Respacing of each process; empty for all steps. Step s of the stage after it is added.

    Returns:
        Of each, from the base on, bits per dimension of its own images (N,), above the s of the stage after it; and
        how many dimensions these have.
    """
    parts, z_0, of_each = [], None, sizes_of(generators, images)
    levels = [stage.drawn_s if isinstance(stage, SuperResolution) else 0 for stage in generators[1:]]
    for generator, own, above in zip(generators, of_each, [*levels, 0], strict=True):
        with on_device(generator) as there:
            assert isinstance(there, DDPM)
            spaced = Denoiser(there.diffusion, there.unet).respace(steps)
            if above:
                visited = sorted({*spaced.process.timestep_map, above - 1})
                spaced = spaced.on(GaussianDiffusion(spaced.process.config, visited))
            seeds = torch.randint(2**62, (len(own),), device=own.device)  # of the noise in z_s
            told = there.told(seeds, told_to(there, condition) | ({} if z_0 is None else {"low_res": z_0}))
            parts.append((bits_per_dim(spaced, own, told, above=above).total, own[0].numel()))
        z_0 = own
    return parts
