"""What the metrics of an evaluation are shown: real images, samples, and what belongs to each sample."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from tenshot.callbacks.metric_choice import Requests
from tenshot.callbacks.sample_pairs import SamplePairs, pairs_of
from tenshot.datamodules import ImageDataModule
from tenshot.datamodules.batches import CONDITION_IMAGE, Source
from tenshot.datamodules.conditions import Conditions
from tenshot.datamodules.pixels import from_pixels
from tenshot.errors import InputError
from tenshot.lightning_modules import LatentGenerator
from tenshot.metrics import ImageMetric, PathMetric
from tenshot.metrics.base import TRUE_CONDITIONS, Need, Report
from tenshot.metrics.pixels import checked_pixels

__all__ = ["MetricInputs"]

MOST_SHOTS = 1000
"""Of more training pictures, samples are not compared with each."""


class MetricInputs:
    """The images that metrics compare samples with, and the metrics.

    Args:
        data: Where the images are from.
        reference: How many of the domain, where the data can draw any number.
        batch_size: Images at a time.
        true_conditions: Whether each value is also measured of true conditions.
    """

    def __init__(self, data: ImageDataModule, reference: int, batch_size: int, true_conditions: bool = False) -> None:
        self.data, trained_on = data, data.train_source
        self.real: dict[str, Source | None] = {
            "shots": trained_on if len(trained_on) <= MOST_SHOTS else None,
            "reference": data.reference(reference),
        }
        self.truth = data.truth
        self.condition_from: Callable[[Tensor], Mapping[str, Tensor]] | None = None
        """How a method that enlarges images makes ``low_res`` of true images."""
        self.pairs: SamplePairs | None = None
        """What samples are drawn from, of a method that draws from condition images."""
        self.batch_size, self.suffixes = batch_size, ("", TRUE_CONDITIONS) if true_conditions else ("",)
        self.metrics: dict[str, ImageMetric] = {}
        self._seen_real, self._count = False, 0

    def needs_met(self, method: LightningModule, conditions: Conditions, requests: Requests, samples: int) -> list[str]:
        """The needs of metrics that data, method and options meet; also finds what is shown for them.

        Args:
            method: Which draws.
            conditions: Of the samples.
            requests: What the user asks for.
            samples: How many there will be.

        Raises:
            InputError: Several samples of each condition are asked for, of a method that has none.
        """
        met = [need for need, source in {**self.real, "truth": self.truth}.items() if source is not None]
        self.condition_from = getattr(method, "condition_from", None)
        self.pairs = pairs_of(method, self.data, conditions, named=requests.metrics is not None)
        if self.pairs is None and conditions.per_condition is not None:
            raise InputError(
                "--evaluate.per_condition draws several samples of each condition image, but "
                f"{type(method).__name__} draws from none here: leave it out"
            )
        for need, there in (
            ("latents", isinstance(method, LatentGenerator)),
            ("condition", conditions.recorded is not None),
            ("low_res", self.condition_from is not None),
            ("predictor", requests.predictor is not None),
        ):
            met += [need] if there else []
        return met + (self.pairs.needs_met(samples) if self.pairs is not None else [])

    @property
    def better(self) -> dict[str, bool | None]:
        """Name of each value that the metrics compute -> whether more is better; None where neither is."""
        values = {name: more for metric in self.metrics.values() for name, more in metric.better().items()}
        return {f"{name}{suffix}": more for name, more in values.items() for suffix in self.suffixes}

    def prepare(self, metrics: dict[str, ImageMetric], count: int, option: str) -> None:
        """Take the metrics, and load what they need, before any sample is drawn.

        Args:
            metrics: By name.
            count: How many samples there will be.
            option: That says so.

        Raises:
            InputError: Weights cannot be read, or there are more samples than true images.
        """
        self.metrics, self._count = metrics, count
        if self._that_need("truth") and self.truth is not None and count > len(self.truth):
            raise InputError(
                f"{option} is {count}, but there are true images of {len(self.truth)}: choose at most that"
            )
        for metric in metrics.values():
            metric.prepare()

    def show_real(self, trainer: Trainer, device: torch.device) -> None:
        """Show this rank's share of the real images, and of those that belong to the conditions, once."""
        for compared_with, source in () if self._seen_real else self.real.items():
            waiting = self._that_need(compared_with)
            if not waiting or source is None:
                continue
            mine = range(trainer.global_rank, len(source), trainer.world_size)
            for start in range(0, len(mine), self.batch_size):
                pixels = source.read(mine[start : start + self.batch_size])["image"].to(device)
                for metric in waiting:
                    metric.update(pixels, real=compared_with if metric.compares_with_both else True)
        if self.pairs is not None and self._compare_conditions and not self._seen_real:
            mine = range(trainer.global_rank, min(self.pairs.count, self._count), trainer.world_size)
            for start in range(0, len(mine), self.batch_size):
                pairs = self.pairs.read(mine[start : start + self.batch_size])
                parts = self.pairs.parts(pairs[CONDITION_IMAGE].to(device))
                for need, metric in self._of_parts(parts):
                    metric.update(pairs["image"].to(device), condition_image=parts[need], real=True)
        self._seen_real = True

    def _of_parts(self, parts: Mapping[Need, Tensor]) -> list[tuple[Need, ImageMetric]]:
        """The metrics that look at a part of the condition, with that part."""
        return [(need, metric) for metric in self.metrics.values() for need in metric.needs if need in parts]

    def show(self, images: Tensor, batch: dict[str, Any]) -> None:
        """Show some samples, and with them what each metric needs of them.

        Args:
            images: (N, C, H, W) in [-1, 1]
            batch: ``index`` (N,), their numbers, and ``condition``, what they were conditioned on.
        """
        pixels = checked_pixels(images)
        beside: dict[Need, tuple[str, Any]] = {"condition": ("condition", batch.get("condition"))}
        if self.truth is not None and self._that_need("truth"):
            beside["truth"] = ("real", self.truth.read(batch["index"].tolist())["image"].to(pixels.device))
        if self.condition_from is not None and self._that_need("low_res"):
            made = self.condition_from(from_pixels(pixels))["low_res"]
            beside["low_res"] = ("low_res", (batch["condition"]["low_res"], made))
        if self.pairs is not None:
            numbers = batch["index"] % self.pairs.count
            beside["pair"] = ("pair", numbers)
            if self._compare_conditions:
                given = (batch.get("condition") or self.pairs.read(numbers.tolist()))[CONDITION_IMAGE]
                parts = self.pairs.parts(given.to(pixels.device))
                beside |= {part: ("condition_image", shown) for part, shown in parts.items()}
        for metric in self.metrics.values():
            if not isinstance(metric, PathMetric):
                metric.update(pixels, **dict(beside[need] for need in metric.needs if need in beside))

    def reports(self) -> dict[str, Report]:
        """What each metric says; on all ranks. Then it gives back the accelerator's memory."""
        reports = {name: metric.report() for name, metric in self.metrics.items()}
        for metric in self.metrics.values():
            metric.release()
        return reports

    def forget(self) -> None:
        """Let go of all images."""
        for metric in self.metrics.values():
            metric.reset()
        self.real, self.truth, self.pairs = {}, None, None

    @property
    def _compare_conditions(self) -> bool:
        """Whether a metric compares samples with the conditions that they are drawn from."""
        return self.pairs is not None and any(self._that_need(part) for part in self.pairs.kind.parts)

    def _that_need(self, need: str) -> list[ImageMetric]:
        return [metric for metric in self.metrics.values() if need in metric.needs]
