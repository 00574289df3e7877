"""Measure a generator: one set of samples, every chosen metric, one table."""

from contextlib import nullcontext
from pathlib import Path
from typing import Any, cast

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from tenshot.callbacks.drawn_by import DrawnBy, drawn_by
from tenshot.callbacks.drawn_folder import DrawnFolder
from tenshot.callbacks.ema import averaged
from tenshot.callbacks.evaluation_result import publish_result, result_of
from tenshot.callbacks.image_writer import to_uint8, write_png
from tenshot.callbacks.metric_choice import Features, PathName, Requests, chosen_metrics
from tenshot.callbacks.path_drawing import show_paths
from tenshot.callbacks.throughput import paused
from tenshot.checkpoints.uses import kept_if_used
from tenshot.datamodules import ImageDataModule
from tenshot.datamodules.batches import Source
from tenshot.datamodules.samples import SeedBatches
from tenshot.errors import InputError, check_range, did_you_mean
from tenshot.lightning_modules import ImageGenerator, LatentGenerator
from tenshot.lightning_modules.drawing import in_precision
from tenshot.metrics import ImageMetric, MetricName, PathMetric
from tenshot.metrics.pixels import to_pixels
from tenshot.run.atomic_io import reported
from tenshot.run.best_effort import best_effort
from tenshot.run.wandb_log import RunWandb

__all__ = ["EvaluateGenerator"]

MOST_SHOTS = 1000
"""Of more training images, samples are not compared with each."""

BEST = "checkpoints/best.ckpt"


class EvaluateGenerator(Callback):
    """Draw samples, compare them with the shots and with other images of the domain, and report.

    The same samples, number 0 ... samples - 1 of the seed, serve all metrics, whatever the batch size and the number of
    ranks. ``tenshot test`` prints a table and writes it to ``evaluations/`` in the run's folder. During fit it can do
    the same every so many steps on fewer samples, and keep the best checkpoint.

    Args:
        metrics: Which to compute; none: all that data and method allow (a reference set is needed for frechet, kernel
            and precision_recall, a few shots for intra_lpips and nearest_lpips, a method with latents for path_length
            and path_uniformity, which during fit are computed only if named).
        features: ``trained``: the published networks, Inception for FID and KID, VGG16 for LPIPS and precision/recall;
            ``pytorch_fid``: the same, but images resized for Inception as pytorch-fid does, for FID of CDC, MixDL and
            CRDI; ``adm``: the same, but precision and recall on Inception, as ADM's tables; ``random``: fixed networks
            with random weights, which need no file, under names that say so.
        inception_weights: File of the Inception weights; by default torch's cache, or a download.
        vgg16_weights: File of the VGG16 weights; by default torch's cache, or a download.
        lpips_resize: Side to which images are resized for LPIPS; published numbers are of 256.
        samples: How many images to draw.
        reference: How many images of the domain to compare with, where the data can draw any number; a folder
            (--data.val_root) is taken whole.
        batch_size: Images at a time on each device.
        seed: Of the samples.
        paths: How many pairs of latents to go between for path_length (published: 50,000, of 2 images each) and
            path_uniformity (5000, of 11); during fit at most fit_samples.
        path_length: Space and sampling of path_length.
        save: Also write the samples to this folder, with ``drawn_by.json``, which says what drew them; those drawn
            during fit to ``step=00000500`` in it and so on.
        every_n_steps: During fit, optimiser steps between two evaluations; 0 for none.
        fit_samples: How many images to draw during fit.
        keep_best: During fit, the value (a name of the table, such as ``intra_lpips``) by which to keep
            ``checkpoints/best.ckpt``.
    """

    def __init__(
        self,
        metrics: list[MetricName] | None = None,
        features: Features = "trained",
        inception_weights: str | None = None,
        vgg16_weights: str | None = None,
        lpips_resize: int | None = None,
        samples: int = 1000,
        reference: int = 1000,
        batch_size: int = 32,
        seed: int = 0,
        paths: int = 500,
        path_length: PathName = "wend",
        save: str | None = None,
        every_n_steps: int = 0,
        fit_samples: int = 100,
        keep_best: str | None = None,
    ) -> None:
        for name, value, least in (
            ("samples", samples, 2), ("reference", reference, 2), ("batch_size", batch_size, 1), ("seed", seed, 0),
            ("every_n_steps", every_n_steps, 0), ("fit_samples", fit_samples, 2), ("paths", paths, 2),
        ):  # fmt: skip
            check_range(f"--evaluate.{name}", value, least)
        if keep_best is not None and not every_n_steps:
            raise InputError("--evaluate.keep_best needs evaluations during fit: set --evaluate.every_n_steps")
        self.requests = Requests(metrics, features, inception_weights, vgg16_weights, lpips_resize, path_length)
        self.samples, self.reference, self.paths = samples, reference, paths
        self.batch_size, self.seed = batch_size, seed
        self.save, self.every_n_steps, self.fit_samples, self.keep_best = save, every_n_steps, fit_samples, keep_best
        self.data: ImageDataModule | None = None
        """The shots and the reference; by default the trainer's data module."""
        self._metrics: dict[str, ImageMetric] = {}
        self._real: dict[str, Source | None] = {}
        self._seen_real = False
        self._evaluated_step, self._step_of_checkpoint = -1, 0
        self._best: float | None = None
        self._by: DrawnBy | None = None
        self._folder: DrawnFolder | None = None

    # What is compared

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Find the images to compare with and the weights of the metrics, before anything is trained or drawn.

        Raises:
            InputError: Something that a metric asked for needs is not there.
        """
        if not (stage == "test" or (stage == "fit" and self.every_n_steps)):
            return
        if self.data is None:
            self.data = cast(ImageDataModule, trainer.datamodule)  # type: ignore[attr-defined]
        trained_on, reference = self.data.train_source, self.data.reference(self.reference)
        self._real = {"shots": trained_on if len(trained_on) <= MOST_SHOTS else None, "reference": reference}
        self._seen_real = False
        there = [name for name, source in self._real.items() if source is not None]
        if isinstance(pl_module, LatentGenerator):
            there.append("latents")
        self._metrics = chosen_metrics(self.requests, there, thorough=stage == "test")
        if not self._metrics:
            raise InputError(
                "there is nothing to compare samples with: set --data.shots, or --data.val_root to other images of "
                "the domain"
            )
        for metric in self._metrics.values():
            metric.prepare()
        if stage == "fit" and self.keep_best is not None:
            self._more_is_better(self.keep_best)
        for logger in trainer.loggers:
            if isinstance(logger, RunWandb):
                logger.summarise(self._better())

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Let go of the images."""
        for metric in self._metrics.values():
            metric.reset()
        self._real = {}

    def _better(self) -> dict[str, bool | None]:
        """For each value that is computed, whether a larger one is the better; None where neither is."""
        return {name: more for metric in self._metrics.values() for name, more in metric.better().items()}

    def _more_is_better(self, value: str) -> bool:
        """Whether a larger one is the better.

        Raises:
            InputError: No metric computes it, or neither is better.
        """
        every = self._better()
        ordered = [name for name, more in every.items() if more is not None]
        if value not in ordered:
            fault = "has no better or worse" if value in every else f"is not computed{did_you_mean(value, ordered)}"
            raise InputError(f"--evaluate.keep_best {value!r} {fault}: choose one of {', '.join(ordered)}")
        return bool(every[value])

    # tenshot test

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Note its step, which the trainer does not know in a test."""
        self._step_of_checkpoint = checkpoint["global_step"]

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show the metrics the real images, and paths."""
        with averaged(trainer, pl_module):
            self._claim(trainer, pl_module, self.samples)
            self._begin(trainer, pl_module, self.paths)

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *position: int
    ) -> None:
        """Show them a batch of samples."""
        self._add(outputs, batch["index"])

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compute, print and write."""
        publish_result(trainer, self._finish(trainer, pl_module, self.samples))

    # tenshot fit

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """A resumed run has the evaluation of its step; its best one may have been set aside with later steps."""
        self._evaluated_step = trainer.global_step
        if self.keep_best and not trainer.strategy.broadcast((Path(trainer.default_root_dir) / BEST).exists()):
            self._best = None

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Evaluate when it is time."""
        step = trainer.global_step
        if not self.every_n_steps or step % self.every_n_steps or step == self._evaluated_step:
            return
        self._evaluated_step = step
        with paused(trainer):
            self._evaluate(trainer, pl_module)

    def _evaluate(self, trainer: Trainer, pl_module: LightningModule) -> None:
        with averaged(trainer, pl_module):
            self._claim(trainer, pl_module, self.fit_samples)
            self._begin(trainer, pl_module, min(self.paths, self.fit_samples))
            mine = torch.arange(trainer.global_rank, self.fit_samples, trainer.world_size)
            for wanted in SeedBatches(mine, self.seed, self.batch_size, -(-len(mine) // self.batch_size)):
                with in_precision(pl_module):
                    images = cast(ImageGenerator, pl_module).sample(wanted["seed"].to(pl_module.device))
                self._add(images, wanted["index"])
            result = self._finish(trainer, pl_module, self.fit_samples)
        publish_result(trainer, result)
        if self.keep_best is not None:
            self._keep_if_best(trainer, result, self.keep_best)

    def _keep_if_best(self, trainer: Trainer, result: dict[str, Any], by: str) -> None:
        value: float | None = result["values"][by]
        sign = 1 if self._more_is_better(by) else -1
        if value is None or (self._best is not None and sign * value <= sign * self._best):
            return
        self._best = value
        said = f"step {trainer.global_step}: best {by} so far, {value:.4g}: {BEST}"

        def done(failure: InputError | None) -> None:
            rank_zero_info(f"training goes on without: {failure}" if failure else said)

        path = Path(trainer.default_root_dir, BEST)
        if trainer.is_global_zero:
            kept_if_used(path)
        with reported(trainer.strategy.checkpoint_io, done, later=True):
            trainer.save_checkpoint(path, weights_only=False)

    def state_dict(self) -> dict[str, Any]:
        """The best value so far, and of what."""
        return {"best": self._best, "keep_best": self.keep_best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from it, unless another value counts now."""
        self._best = state_dict["best"] if state_dict.get("keep_best", self.keep_best) == self.keep_best else None

    # The work

    def _claim(self, trainer: Trainer, pl_module: LightningModule, count: int) -> None:
        """Find out what draws, and make sure that the folder for the samples is theirs, before any is drawn."""
        step = trainer.global_step if trainer.training else self._step_of_checkpoint
        self._by, self._folder = drawn_by(trainer, pl_module, self.seed, step), None
        if self.save is None:
            return
        path = Path(self.save) / f"step={step:08d}" if trainer.training else Path(self.save)
        with best_effort(str(path.parent)) if trainer.training else nullcontext():
            folder = DrawnFolder(path, self._by, "--evaluate.save")
            folder.claim(trainer, count)
            self._folder = folder

    def _begin(self, trainer: Trainer, pl_module: LightningModule, paths: int) -> None:
        """Forget what was generated, and show the metrics this rank's share of paths and, once, of real images."""
        for metric in self._metrics.values():
            metric.reset_generated()
            if isinstance(metric, PathMetric):
                show_paths(metric, trainer, pl_module, paths, self.seed, self.batch_size)
        if not self._seen_real:
            self._show_real(trainer, pl_module)
            self._seen_real = True

    def _show_real(self, trainer: Trainer, pl_module: LightningModule) -> None:
        for compared_with, source in self._real.items():
            waiting = [metric for metric in self._metrics.values() if compared_with in metric.needs]
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
            if not isinstance(metric, PathMetric):
                metric.update(pixels)
        if self._folder is not None:
            for number, image in zip(index.tolist(), to_uint8(images), strict=True):
                write_png(image, self._folder.file(number), self._folder.mark(number))

    def _finish(self, trainer: Trainer, pl_module: LightningModule, count: int) -> dict[str, Any]:
        """What the JSON file holds (docs/evaluation.md)."""
        reports = {name: metric.report() for name, metric in self._metrics.items()}
        for metric in self._metrics.values():
            metric.release()
        assert self.data is not None
        assert self._by is not None
        return result_of(trainer, pl_module, self._by, count, self.data, self._real, reports)
