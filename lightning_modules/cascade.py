"""A cascade: a generator of small images and the stages that enlarge them (CDM, arXiv 2106.15282), drawn as one."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, Self

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from tenshot.checkpoints.registry import method_for
from tenshot.datamodules.batches import CONDITION_IMAGE
from tenshot.diffusion import cascade_bits_per_dim
from tenshot.distributed.seeding import SeededNoise, position_seed
from tenshot.errors import InputError
from tenshot.lightning_modules.cascade_bound import parts_of_bound, refuse_without_bound
from tenshot.lightning_modules.cascade_conditions import taken, told_to
from tenshot.lightning_modules.cascade_stage import (
    CascadeStage,
    Generator,
    Stage,
    built_stage,
    configured_stage,
    image_side,
    in_words,
    named,
    refuse_other_images,
    refuse_untruncated,
    truncated_at,
)
from tenshot.lightning_modules.ddpm import DDPM
from tenshot.lightning_modules.guidance import ClassifierFreeGuidance, ClassifierGuidance
from tenshot.lightning_modules.noise_drawing import DrawsFromNoise
from tenshot.lightning_modules.piti import PITI
from tenshot.lightning_modules.sampler import Sampler
from tenshot.lightning_modules.stylegan2 import StyleGAN2

__all__ = ["Cascade", "CascadeStage"]

OF_BASE = ("base_sampler", "base_guidance.scale", "base_classifier_free", "base_truncation")
OF_STAGES = ("augmentation_s", "truncated", "start_step", "sampler", "guidance.scale", "classifier_free")
"""Options that ``draw_as`` takes over, of the base and of each stage."""
STAGES = 15
"""Where the seeds of stages are from: none of a stage is that of the base, or of another."""


class KeptImages(Protocol):
    """What the base and the stages have drawn before."""

    def read(self, number: int, seeds: Tensor) -> Tensor | None:
        """The images (N, C, H, W) of a generator, the base being 0; none where not all of them are there."""

    def write(self, number: int, seeds: Tensor, images: Tensor) -> None:
        """Keep images of a generator."""


class Cascade(LightningModule):
    """Draw with a generator of small images and the stages that enlarge them; nothing is trained.

    All draw with their averaged weights, where they have some.

    Args:
        base: What draws the small images: a run, a checkpoint, a file of tenshot convert or a public one, of any
            method.
        stages: Those that enlarge them, in their order.
        base_sampler: How a diffusion model as base draws.
        base_guidance: Draw it towards classes by a classifier of noisy images.
        base_classifier_free: Draw it towards classes, and away from what it draws without one.
        base_truncation: How far the latents of a GAN as base go from the average one (psi).
        offload: Only what is drawing stands on the device, the others in main memory.
        bits_per_dim: Respacing for the variational bound in validation ("250"; "" for all steps).
    """

    averaged: tuple[str, ...] = ()
    """Submodules that an EMA follows: there are none, for nothing is trained."""
    kept: KeptImages | None = None
    """What all but the last stage have drawn, to be used again."""

    def __init__(
        self,
        base: str,
        stages: list[CascadeStage],
        base_sampler: Sampler | None = None,
        base_guidance: ClassifierGuidance | None = None,
        base_truncation: float | None = None,
        offload: bool = False,
        bits_per_dim: str = "",
        base_classifier_free: ClassifierFreeGuidance | None = None,
    ) -> None:
        super().__init__()
        if not stages:
            raise InputError(
                f"--model.stages is empty: give stages, or draw with the base alone, tenshot predict --ckpt_path {base}"
            )
        self.base, self.stages, self.offload, self.bits_per_dim_steps = base, tuple(stages), offload, bits_per_dim
        given = {
            "sampler": base_sampler, "guidance": base_guidance, "classifier_free": base_classifier_free,
            "truncation": base_truncation,
        }  # fmt: skip
        self.base_options: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        of_stages = (f"stages.{number}.{option}" for number in range(len(stages)) for option in OF_STAGES)
        self.drawing: tuple[str, ...] = (*OF_BASE, *of_stages)
        self.generators: Sequence[Generator] = ()
        """The base and the stages. No submodules, so that they need not stand on the device together."""

    def configure_model(self) -> None:
        """Build the base and the stages, with their weights.

        Raises:
            InputError: One cannot be read or is of another kind, or they do not fit each other.
        """
        if self.generators:
            return
        with torch.device("cpu"):  # they go to the device when they draw
            generators = [self._built_base()]
            for number, stage in enumerate(self.stages):
                with named(f"--model.stages[{number}]."):
                    built = built_stage(stage)
                    refuse_other_images(built, stage, generators)
                    if truncated_at(stage, built):
                        refuse_untruncated(generators[-1], stage, built)
                generators.append(built)
        self.generators = [generator.eval().requires_grad_(False) for generator in generators]
        rank_zero_info(in_words(self.generators, self.stages))

    def _built_base(self) -> Generator:
        if (method := method_for(self.base)) in ("SuperResolution", "PITIUpsampler"):
            raise InputError(f"--model.base {self.base}: a stage that enlarges images: give it with --model.stages")
        kinds = {kind.__name__: kind for kind in (DDPM, PITI, StyleGAN2)}
        if method not in kinds:
            raise InputError(f"--model.base {self.base}: of {method}: give one of {' or '.join(kinds)}")
        base = self._configured_base(kinds[method])
        with named("--model.base_"):
            base.configure_model()
        return base

    def _configured_base(self, kind: type[DDPM] | type[StyleGAN2]) -> Any:
        """The method of the base, its network not built."""
        allowed = {"truncation"} if kind is StyleGAN2 else {"sampler", "guidance", "classifier_free"}
        for name in self.base_options.keys() - allowed:
            raise InputError(f"--model.base_{name} is not of a {kind.__name__}, which {self.base} is: leave it out")
        with named("--model.base_"):
            return kind(init_from=self.base, init_weights="ema", **self.base_options)

    def draw_as(self, other: Self) -> None:
        """Take over how base and stages are drawn.

        Raises:
            InputError: One of them cannot be drawn from so, or a stage cannot be truncated.
        """
        base: Any = self.generators[0]
        configured = other._configured_base(type(base))
        with named("--model.base_"):
            base.draw_as(configured)
        for number, stage in enumerate(other.stages):
            before, built = self.generators[number : number + 2]
            assert isinstance(built, Stage)
            with named(f"--model.stages[{number}]."):
                built.draw_as(configured_stage(stage))  # type: ignore[arg-type]
                if truncated_at(stage, built):
                    refuse_untruncated(before, stage, built)
        self.stages, self.base_options = other.stages, other.base_options

    # Drawing

    @property
    def num_classes(self) -> int | None:
        """How many classes there are to draw from; none where the base has none."""
        return self.generators[0].num_classes

    @property
    def condition_name(self) -> str | None:
        """Which entry of the data's conditions images are drawn from; none where no part draws from any."""
        return None if taken(self.generators) is None else CONDITION_IMAGE

    @property
    def size(self) -> int:
        """Side of the images in pixels."""
        return image_side(self.generators[-1])

    def predict_step(self, batch: dict[str, Any], batch_idx: int) -> dict[str, Tensor]:
        """Draw the images that a batch of seeds asks for."""
        return {"index": batch["index"], "image": self.sample(batch["seed"], batch.get("condition"))}

    def test_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """Draw the images that a batch of seeds asks for."""
        return self.sample(batch["seed"], batch.get("condition"))

    @torch.no_grad()
    def sample(self, seeds: Tensor, condition: Mapping[str, Tensor] | None = None, preview: bool = False) -> Tensor:
        """Draw images; each depends on its own seed and condition alone.

        Args:
            seeds: (N,) int64, one an image.
            condition: ``label``: (N,) int64, where the base has classes; drawn uniformly where not given.
                ``condition_image``: (N, C, S, S), where any draws from it, of the size of the largest.
            preview: Draw with the preview samplers, and not truncated.

        Returns:
            (N, C, H, W) float32 in [-1, 1]
        """
        told = dict(condition or {})
        if self.num_classes is not None and "label" not in told:
            told["label"] = SeededNoise(seeds, self.device).integers(self.num_classes)
        given = [told_to(generator, told) for generator in self.generators]
        done, images = self._kept_of(seeds) if self.kept is not None and not preview else (0, torch.empty(0))
        for number in range(done, len(self.generators)):
            given[number] |= {self._given_as(number, preview): images} if number else {}
            s, own = 0 if preview else self.noise_left(number), stage_seeds(seeds, number)
            with self._on_device(self.generators[number]) as generator:
                if s == 0:
                    images = generator.sample(own, given[number], preview)
                else:
                    assert isinstance(generator, DrawsFromNoise)
                    images = generator.sample_noisy(own, s, given[number])
            if self.kept is not None and not preview and number < len(self.stages):
                self.kept.write(number, seeds, images)
        return images

    @torch.no_grad()
    def enlarge(self, seeds: Tensor, condition: Mapping[str, Tensor]) -> Tensor:
        """Draw with the last stage alone, by the seeds that it has in ``sample``, from images of other origin.

        Args:
            seeds: (N,) int64, of the cascade's images.
            condition: ``low_res`` (N, C, h, w) in [-1, 1], to which noise is added as to generated ones; else as for
                ``sample``.

        Returns:
            (N, C, H, W) float32 in [-1, 1]
        """
        with self._on_device(self.generators[-1]) as stage:
            return stage.sample(stage_seeds(seeds, len(self.stages)), told_to(stage, condition))

    def on_validation_start(self) -> None:
        """See that there is a bound.

        Raises:
            InputError: There is none.
        """
        refuse_without_bound(self.generators)

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """The bound, and the parts of base and stages in bits per dimension of their own images; InputError where the
        data are of another size, or without the labels that the cascade needs.
        """
        x, label = batch["image"], dict(batch.get("condition") or {})
        if x.shape[-1] != self.size or (self.num_classes is not None and "label" not in label):
            told = f"are of {x.shape[-1]} px, {'with' if 'label' in label else 'without'} labels"
            classes = "no" if self.num_classes is None else self.num_classes
            raise InputError(f"the cascade draws {self.size} px, {classes} classes, but the data {told}: set --data")
        parts = parts_of_bound(self.generators, self._on_device, x, label, self.bits_per_dim_steps)
        values = [("bits_per_dim", cascade_bits_per_dim(parts))]
        values += [(f"bits_per_dim_{f'stage{n - 1}' if n else 'base'}", bits) for n, (bits, _) in enumerate(parts)]
        for name, bits in values:
            self.log(f"val/{name}", bits.mean(), batch_size=len(x), sync_dist=True)

    def _given_as(self, number: int, preview: bool) -> str:
        """Under which name a stage is given what it enlarges."""
        return "noisy_low_res" if not preview and self.noise_left(number - 1) else "low_res"

    def _kept_of(self, seeds: Tensor) -> tuple[int, Tensor]:
        """How many generators need not draw, and the images (N, C, H, W) of the last of them."""
        assert self.kept is not None
        for number in reversed(range(len(self.stages))):
            if (images := self.kept.read(number, seeds)) is not None:
                return number + 1, images.to(self.device)
        return 0, torch.empty(0)

    def noise_left(self, number: int) -> int:
        """The step at which the chain of a generator stops, because the stage after it is truncated; 0: it goes on."""
        if number == len(self.stages):
            return 0
        built = self.generators[number + 1]
        assert isinstance(built, Stage)
        return truncated_at(self.stages[number], built)

    @contextmanager
    def _on_device(self, generator: Generator) -> Iterator[Generator]:
        with torch.inference_mode(False):  # weights moved in inference mode could not enter the graph of a guidance
            generator.to(self.device)
        yield generator
        if self.offload:
            with torch.inference_mode(False):
                generator.to("cpu")


def stage_seeds(seeds: Tensor, number: int) -> Tensor:
    """The seeds by which a generator of a cascade draws: the base (0) by the images', each stage by its own.

    Different seeds of one set stay different.

    Args:
        seeds: (N,) int64, of the images.
        number: Of the generator.
    """
    if number == 0:
        return seeds
    return torch.tensor([position_seed([STAGES, number, seed]) for seed in seeds.tolist()], device=seeds.device)
