"""Measure a generator: one set of samples, every chosen metric, one table."""

import json
import math
from dataclasses import asdict, is_dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, cast

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info, rank_zero_only
from rich.console import Console
from rich.table import Table
from torch import Tensor

from tenshot.callbacks.ema import EMA, averaged
from tenshot.callbacks.image_writer import to_uint8, write_png
from tenshot.callbacks.metric_choice import NEEDS, MetricName, Requests, chosen_metrics
from tenshot.callbacks.provenance import code_version
from tenshot.datamodules import Pictures
from tenshot.datamodules.batches import Source
from tenshot.datamodules.samples import SeedBatches
from tenshot.errors import InputError
from tenshot.lightning_modules import ImageGenerator
from tenshot.metrics import ImageMetric
from tenshot.metrics.pixels import to_pixels

__all__ = ["EvaluateGenerator"]

SCHEMA = 1
MOST_SHOTS = 1000


class EvaluateGenerator(Callback):
    """Draw samples, compare them with the shots and with other pictures of the domain, and report.

    The same samples, number 0 ... samples - 1 of the seed, serve all metrics, whatever the batch size and the number of
    ranks. ``tenshot test`` prints a table and writes it to ``evaluations/`` in the run's folder. During fit it can do
    the same every so many steps on fewer samples, and keep the best checkpoint.

    Args:
        metrics: Which to compute; none: all that the data allow (a reference set is needed for frechet, kernel and
            precision_recall, a few shots for intra_lpips and nearest_lpips).
        features: ``trained``: the published networks, Inception for FID and KID, VGG16 for LPIPS and precision/recall;
            ``random``: fixed networks with random weights, which need no file, under names that say so.
        inception_weights: File of the Inception weights; by default torch's cache, or a download.
        vgg16_weights: File of the VGG16 weights; by default torch's cache, or a download.
        lpips_resize: Side to which pictures are resized for LPIPS; published numbers are of 256.
        samples: How many pictures to draw.
        reference: How many pictures of the domain to compare with, where the data can draw any number; a folder
            (--data.val_root) is taken whole.
        batch_size: Pictures at a time on each device.
        seed: Of the samples.
        save: Also write the samples to this folder.
        every_n_steps: During fit, optimiser steps between two evaluations; 0 for none.
        fit_samples: How many pictures to draw during fit.
        keep_best: During fit, the value (a name of the table, such as ``intra_lpips``) by which to keep
            ``checkpoints/best.ckpt``.
    """

    def __init__(
        self,
        metrics: list[MetricName] | None = None,
        features: Literal["trained", "random"] = "trained",
        inception_weights: str | None = None,
        vgg16_weights: str | None = None,
        lpips_resize: int | None = None,
        samples: int = 1000,
        reference: int = 1000,
        batch_size: int = 32,
        seed: int = 0,
        save: str | None = None,
        every_n_steps: int = 0,
        fit_samples: int = 100,
        keep_best: str | None = None,
    ) -> None:
        for name, value, least in (
            ("samples", samples, 2), ("reference", reference, 2), ("batch_size", batch_size, 1), ("seed", seed, 0),
            ("every_n_steps", every_n_steps, 0), ("fit_samples", fit_samples, 2),
        ):  # fmt: skip
            if value < least:
                raise InputError(f"--evaluate.{name} is {value}: choose at least {least}")
        if keep_best is not None and not every_n_steps:
            raise InputError("--evaluate.keep_best needs evaluations during fit: set --evaluate.every_n_steps")
        self.requests = Requests(metrics, features, inception_weights, vgg16_weights, lpips_resize)
        self.samples, self.reference, self.batch_size, self.seed = samples, reference, batch_size, seed
        self.save, self.every_n_steps, self.fit_samples, self.keep_best = save, every_n_steps, fit_samples, keep_best
        self.data: Pictures | None = None
        """The shots and the reference; by default the trainer's data module."""
        self._metrics: dict[str, ImageMetric] = {}
        self._evaluated_step, self._step_of_checkpoint = -1, 0
        self._best: float | None = None

    # What is compared

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Find the pictures to compare with and the weights of the metrics, before anything is trained or drawn.

        Raises:
            InputError: Something that a metric asked for needs is not there.
        """
        if not (stage == "test" or (stage == "fit" and self.every_n_steps)):
            return
        if self.data is None:
            self.data = cast(Pictures, trainer.datamodule)  # type: ignore[attr-defined]
        self._metrics = chosen_metrics(self.requests, bool(self._shots()), self._reference() is not None)
        if not self._metrics:
            raise InputError(
                "there is nothing to compare samples with: set --data.shots, or --data.val_root to other pictures of "
                "the domain"
            )
        for metric in self._metrics.values():
            metric.prepare()

    def _shots(self) -> Source | None:
        """The pictures that were trained on, where they are few."""
        assert self.data is not None
        source = self.data.train_source
        return source if len(source) <= MOST_SHOTS else None

    def _reference(self) -> Source | None:
        assert self.data is not None
        return self.data.reference(self.reference)

    # tenshot test

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Note its step, which the trainer does not know in a test."""
        self._step_of_checkpoint = checkpoint["global_step"]

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show the metrics the real pictures."""
        self._begin(trainer, pl_module)

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *position: int
    ) -> None:
        """Show them a batch of samples."""
        self._add(outputs, batch["index"])

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compute, print and write."""
        self._publish(trainer, self._finish(trainer, pl_module, self.samples))

    # tenshot fit

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """A resumed run has the evaluation of the step that it was loaded from."""
        self._evaluated_step = trainer.global_step

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Evaluate when it is time."""
        step = trainer.global_step
        if not self.every_n_steps or step % self.every_n_steps or step == self._evaluated_step:
            return
        self._evaluated_step = step
        with averaged(trainer, pl_module):
            self._begin(trainer, pl_module)
            for wanted in self._share(trainer, self.fit_samples):
                self._add(cast(ImageGenerator, pl_module).sample(wanted["seed"].to(pl_module.device)), wanted["index"])
            result = self._finish(trainer, pl_module, self.fit_samples)
        self._publish(trainer, result)
        if self.keep_best is not None:
            self._keep_if_best(trainer, result)

    def _share(self, trainer: Trainer, count: int) -> SeedBatches:
        mine = torch.arange(trainer.global_rank, count, trainer.world_size)
        return SeedBatches(mine, self.seed, self.batch_size, -(-len(mine) // self.batch_size))

    def _keep_if_best(self, trainer: Trainer, result: dict[str, Any]) -> None:
        values: dict[str, float | None] = result["values"]
        assert self.keep_best is not None
        if self.keep_best not in values:
            raise InputError(
                f"--evaluate.keep_best {self.keep_best!r} is not computed: choose one of {', '.join(values)}"
            )
        value = values[self.keep_best]
        metric = next(name for name, part in result["metrics"].items() if self.keep_best in part["values"])
        sign = 1 if self._metrics[metric].higher_is_better else -1
        if value is None or (self._best is not None and sign * value <= sign * self._best):
            return
        self._best = value
        trainer.save_checkpoint(Path(trainer.default_root_dir) / "checkpoints" / "best.ckpt", weights_only=False)
        rank_zero_info(f"step {trainer.global_step}: best {self.keep_best} so far, {value:.4g}: checkpoints/best.ckpt")

    def state_dict(self) -> dict[str, Any]:
        """The best value so far."""
        return {"best": self._best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from it."""
        self._best = state_dict["best"]

    # The work

    def _begin(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Empty the metrics, and show them this rank's share of the real pictures."""
        for metric in self._metrics.values():
            metric.reset()
        for compared_with, source in (("shots", self._shots()), ("reference", self._reference())):
            waiting = [metric for name, metric in self._metrics.items() if NEEDS[name] == compared_with]
            if not waiting or source is None:
                continue
            mine = range(trainer.global_rank, len(source), trainer.world_size)
            for start in range(0, len(mine), self.batch_size):
                pixels = source.read(mine[start : start + self.batch_size])["image"].to(pl_module.device)
                for metric in waiting:
                    metric.update(pixels, real=True)

    def _add(self, images: Tensor, index: Tensor) -> None:
        pixels = to_pixels(images)
        for metric in self._metrics.values():
            metric.update(pixels)
        if self.save is not None:
            for number, picture in zip(index.tolist(), to_uint8(images), strict=True):
                write_png(picture, Path(self.save) / f"{number:06d}.png")

    def _finish(self, trainer: Trainer, pl_module: LightningModule, count: int) -> dict[str, Any]:
        """What the JSON file holds (docs/evaluation.md)."""
        reports = {name: metric.report() for name, metric in self._metrics.items()}
        for metric in self._metrics.values():
            metric.release()
        ema = next((c for c in trainer.callbacks if isinstance(c, EMA)), None)  # type: ignore[attr-defined]
        sampler, has_weights = getattr(pl_module, "sampler", None), bool(getattr(pl_module, "averaged", ()))
        return {
            "schema": SCHEMA,
            "method": type(pl_module).__name__,
            "title": getattr(pl_module, "title", None) or Path(trainer.default_root_dir).name,
            "checkpoint": str(trainer.ckpt_path) if trainer.ckpt_path else None,
            "step": trainer.global_step if trainer.training else self._step_of_checkpoint,
            "weights": ema.weights_used() if ema is not None and has_weights else None,
            "sampler": asdict(sampler) if is_dataclass(sampler) and not isinstance(sampler, type) else None,
            "samples": count,
            "seed": self.seed,
            "shots": str(self._shots() or "") or None,
            "reference": str(self._reference() or "") or None,
            "values": {name: number(value) for report in reports.values() for name, value in report.values.items()},
            "metrics": {
                name: {
                    "values": {key: number(value) for key, value in report.values.items()},
                    "settings": report.settings,
                    "details": report.details,
                }
                for name, report in reports.items()
            },
            "code": code_version(),
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
        }

    @rank_zero_only
    def _publish(self, trainer: Trainer, result: dict[str, Any]) -> None:
        """Print the table, write the file, log the values."""
        name = f"step={result['step']:08d}" if result["checkpoint"] or trainer.training else result["title"]
        path = Path(trainer.default_root_dir) / "evaluations" / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(result, indent=1, allow_nan=False) + "\n")
        partial.replace(path)

        about = [f"{result['samples']} samples", *filter(None, [result["weights"]])]
        table = Table("", result["title"], title="; ".join(about))
        for key, value in result["values"].items():
            table.add_row(key, "undefined" if value is None else f"{value:.4g}")
        console = Console()
        console.print(table)
        for name, metric in result["metrics"].items():
            if "why" in metric["details"]:
                console.print(f"{name}: {metric['details']['why']}")
        console.print(str(path), soft_wrap=True)
        group = "eval" if trainer.training else "test"
        for logger in trainer.loggers:
            values = {f"{group}/{key}": value for key, value in result["values"].items() if value is not None}
            logger.log_metrics(values, step=result["step"])


def number(value: float) -> float | None:
    """The value as JSON can hold it: an undefined one is null."""
    return value if math.isfinite(value) else None
