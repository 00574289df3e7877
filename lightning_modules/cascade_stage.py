"""A stage of a cascade: how it draws, and whether it suits what comes before it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from tenshot.checkpoints.registry import method_for
from tenshot.errors import InputError
from tenshot.lightning_modules.cascade_conditions import taken
from tenshot.lightning_modules.ddpm import ANCESTRAL_250, DDPM
from tenshot.lightning_modules.guidance import ClassifierFreeGuidance, ClassifierGuidance
from tenshot.lightning_modules.noise_drawing import DrawsFromNoise
from tenshot.lightning_modules.piti_upsampler import PUBLISHED, PITIUpsampler
from tenshot.lightning_modules.sampler import Sampler
from tenshot.lightning_modules.stylegan2 import StyleGAN2
from tenshot.lightning_modules.super_resolution import SuperResolution

__all__ = [
    "CascadeStage",
    "Generator",
    "Stage",
    "built_stage",
    "configured_stage",
    "image_side",
    "in_words",
    "named",
    "refuse_other_images",
    "refuse_untruncated",
    "truncated_at",
]

Generator = DDPM | StyleGAN2
Stage = SuperResolution | PITIUpsampler
ONE_S = ("augmentation_s", "truncated", "start_step", "guidance", "classifier_free")
"""Options of SuperResolution alone."""


@dataclass(frozen=True)
class CascadeStage:
    """A stage that enlarges, and how it draws.

    Args:
        checkpoint: A run or checkpoint of SuperResolution or of PITIUpsampler, which is drawn by ``sampler`` alone, a
            file of tenshot convert, or a public upsampler.
        augmentation_s: Step s of noise in what it enlarges, of the process of which it was trained with it; none: the
            least of training.
        truncated: What was to be enlarged is drawn up to step s only; else it is drawn whole and then noised.
        start_step: Begin from the enlarged image with the noise of this step, as SuperResolution.
        sampler: How it draws; none: by 250 ancestral steps, a PITIUpsampler as published.
        guidance: Draw towards classes by a classifier of noisy images.
        classifier_free: Draw towards classes, and away from what it draws without one.
    """

    checkpoint: str
    augmentation_s: int | None = None
    truncated: bool = False
    start_step: int | None = None
    sampler: Sampler | None = None
    guidance: ClassifierGuidance | None = None
    classifier_free: ClassifierFreeGuidance | None = None


def image_side(generator: Generator) -> int:
    """Side of its images in pixels."""
    return (generator.unet if isinstance(generator, DDPM) else generator.generator).config.image_size


def truncated_at(stage: CascadeStage, built: Stage) -> int:
    """The step at which the chain before a stage stops; 0 where it is drawn whole."""
    return built.drawn_s if stage.truncated and isinstance(built, SuperResolution) else 0


def in_words(generators: Sequence[Generator], stages: Sequence[CascadeStage]) -> str:
    """The cascade of a base and stages for the log."""
    words = [f"cascade: {image_side(generators[0])} px"]
    for stage, built in zip(stages, generators[1:], strict=True):
        words.append(f"{image_side(built)} px")
        if isinstance(built, SuperResolution) and built.augmentation.noise is not None:
            how = "truncated" if truncated_at(stage, built) else "non-truncated"
            words[-1] += f", {built.corruption.told(built.drawn_s)}, {how}"
    return " -> ".join(words)


def built_stage(stage: CascadeStage) -> Stage:
    """The method of a stage, with its averaged weights.

    Raises:
        InputError: The checkpoint is of no stage, or cannot draw as asked.
    """
    built = configured_stage(stage)
    built.configure_model()
    return built


def configured_stage(stage: CascadeStage) -> Stage:
    """The method of a stage, its network not built.

    Raises:
        InputError: The checkpoint is of no stage, or has not the options that are asked for.
    """
    method = method_for(stage.checkpoint)
    if method == PITIUpsampler.__name__:
        given = (name for name in ONE_S if getattr(stage, name))
        if (option := next(given, None)) is not None:
            raise InputError(f"--model.{option} is not of a PITIUpsampler, which {stage.checkpoint} is: leave it out")
        return PITIUpsampler(init_from=stage.checkpoint, init_weights="ema", sampler=stage.sampler or PUBLISHED)
    if method != SuperResolution.__name__:
        raise InputError(
            f"--model.checkpoint {stage.checkpoint}: of {method}, not of SuperResolution or PITIUpsampler: give one of "
            "these"
        )
    return SuperResolution(
        init_from=stage.checkpoint,
        init_weights="ema",
        augmentation_s=stage.augmentation_s,
        start_step=stage.start_step,
        sampler=stage.sampler or ANCESTRAL_250,
        guidance=stage.guidance,
        classifier_free=stage.classifier_free,
    )


def refuse_other_images(built: Stage, stage: CascadeStage, before: Sequence[Generator]) -> None:
    """Compare a stage with the generators before it.

    Raises:
        InputError: They draw images of another size or of other classes, or from conditions of other channels.
    """
    drawn, classes = image_side(before[-1]), before[0].num_classes
    if drawn != built.low_res_size:
        raise InputError(
            f"--model.checkpoint {stage.checkpoint}: enlarges {built.low_res_size} x {built.low_res_size}, but what "
            f"comes before it draws {drawn} x {drawn}: give stages whose sizes follow one another"
        )
    if built.num_classes not in (None, classes):
        theirs = "none" if classes is None else classes
        raise InputError(
            f"--model.checkpoint {stage.checkpoint}: draws images of {built.num_classes} classes, but the base has "
            f"{theirs}: give a base and stages of the same classes"
        )
    largest, own = taken(before), taken([built])
    if largest and own and largest.condition_channels != own.condition_channels:
        raise InputError(
            f"--model.checkpoint {stage.checkpoint}: draws from condition images of {own.condition_channels} channels, "
            f"but what comes before it from those of {largest.condition_channels}: give runs on the same conditions"
        )


def refuse_untruncated(before: Generator, stage: CascadeStage, built: Stage) -> None:
    """Make sure that the chain before a stage passes through its z_s.

    Raises:
        InputError: It has none, is of another process, or its sampler does not stop there.
    """
    assert isinstance(built, SuperResolution)
    noise, told = built.augmentation.noise, f"--model.truncated true: {stage.checkpoint}"
    assert noise is not None
    if not isinstance(before, DrawsFromNoise):
        raise InputError(f"{told} would begin from a chain stopped at s, but {type(before).__name__} has none: drop it")
    theirs, ours = ((process.num_steps, process.schedule) for process in (before.diffusion.config, noise))
    if theirs != ours:
        raise InputError(
            f"{told} counts s in {ours[0]} steps, {ours[1]}, but what comes before it has {theirs[0]} steps, "
            f"{theirs[1]}: drop it"
        )
    if before.sampler.method == "dpm_solver":
        raise InputError(f"{told} takes a chain of steps before it, but its sampler is dpm_solver: take ddpm or ddim")
    if built.start_step is not None:
        raise InputError(f"{told} enlarges noisy images, but --model.start_step begins from clean ones: drop one")
    if built.drawn_s > before.drawn_process.num_steps:
        raise InputError(
            f"{told} with s = {built.drawn_s}, but what comes before it begins at step "
            f"{before.drawn_process.num_steps}: choose an s up to that"
        )


@contextmanager
def named(options: str) -> Iterator[None]:
    """What a method says of its options inside the block is of those that begin so, such as ``--model.base_``."""
    try:
        yield
    except InputError as error:
        told = str(error).replace("give --model.diffusion", "tell tenshot convert, and give what it writes")
        raise InputError(told.replace("--model.", options)) from None
