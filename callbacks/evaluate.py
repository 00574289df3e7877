"""Measure a generator: one set of samples, every chosen metric, one table."""

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from torch import Tensor

from tenshot.callbacks.best_checkpoint import BestCheckpoint
from tenshot.callbacks.copying_watch import CopyingWatch
from tenshot.callbacks.drawn_by import DrawnBy, drawn_by
from tenshot.callbacks.drawn_folder import DrawnFolder
from tenshot.callbacks.ema import averaged
from tenshot.callbacks.evaluation_result import publish_result, result_of
from tenshot.callbacks.feature_choice import features_decided
from tenshot.callbacks.image_writer import to_uint8, write_png
from tenshot.callbacks.metric_choice import Features, IntraName, PathName, Requests, build, chosen_metrics
from tenshot.callbacks.metric_inputs import MetricInputs
from tenshot.callbacks.path_drawing import show_paths
from tenshot.callbacks.shared_drawing import drawn_share
from tenshot.callbacks.throughput import paused
from tenshot.callbacks.true_conditions import beside_true_conditions, refuse_true_conditions
from tenshot.datamodules import ImageDataModule
from tenshot.datamodules.conditions import Conditions, Labels
from tenshot.errors import InputError, check_range
from tenshot.lightning_modules import ImageGenerator
from tenshot.metrics import MetricName, PathMetric
from tenshot.run.best_effort import best_effort
from tenshot.run.wandb_log import RunWandb

__all__ = ["EvaluateGenerator"]


class EvaluateGenerator(Callback):
    """Draw samples, compare them with the shots and with other images of the domain, and report.

    The same samples, number 0 ... samples - 1 of the seed, serve all metrics, whatever the batch size and the number of
    ranks. ``tenshot test`` prints a table and writes it to ``evaluations/`` in the run's folder. During fit it can do
    the same every so many steps on fewer samples, and keep the best checkpoint.

    Args:
        metrics: Which to compute; none: all that data and method allow (a reference set is needed for frechet, kernel,
            precision_recall and density_coverage, a few shots for intra_lpips, nearest_lpips, authenticity and
            nearness, both for data_copying and near_copies, a method with latents for path_length and path_uniformity,
            which during fit are computed only if named).
        features: ``published``: Inception for FID and KID, VGG16 for LPIPS and precision/recall; ``pytorch_fid``: the
            same, but images resized for Inception as pytorch-fid does, for FID of CDC, MixDL and CRDI; ``adm``: the
            same, but precision and recall on Inception, as ADM's tables; ``efficientnet_lite0``: that network, trained
            too, whose file comes with a package; ``random``: fixed networks with random weights; ``dinov2``, ``clip``:
            of the file vit_weights, for all but distances of images, which are efficientnet_lite0's then; with CLIP the
            kernel distance is CMMD. Names say which it was. ``auto``: those that the run was evaluated with before;
            else the published ones, if their files are there or soon downloaded, else efficientnet_lite0.
        inception_weights: File of the Inception weights; by default torch's cache, or a download.
        vgg16_weights: File of the VGG16 weights; by default torch's cache, or a download.
        lpips_resize: Side to which images are resized for LPIPS; published numbers are of 256.
        samples: How many images to draw.
        reference: How many images of the domain to compare with, where the data can draw any number; a folder
            (--data.val_root) is taken whole.
        batch_size: Images at a time on each device.
        seed: Of the samples.
        label: Draw this class only, of a model that has classes.
        labels: ``uniform``: sample i is of class i mod K, each of the K classes equally often; ``random``: each
            sample's class is drawn by its own seed, as it is where neither option is given.
        paths: How many pairs of latents to go between for path_length (published: 50,000, of 2 images each) and
            path_uniformity (5000, of 11); during fit at most fit_samples.
        path_length: Space and sampling of path_length.
        intra_lpips: Whose pairs intra_lpips compares, of each cluster at most: ``random50``, as CDC's code; the
            ``first50`` or ``first100`` samples, as CRDI's.
        save: Also write the samples to this folder, with ``drawn_by.json``, which says what drew them; those drawn
            during fit to ``step=00000500`` in it and so on.
        every_n_steps: During fit, optimiser steps between two evaluations; 0 for none.
        fit_samples: How many images to draw during fit.
        keep_best: During fit, the value (a name of the table, such as ``intra_lpips``) by which to keep
            ``checkpoints/best.ckpt``.
        patience: During fit, stop after so many evaluations worse than the best one since it; none: do all steps.
        vit_weights: File of DINOv2's or CLIP's weights, for these features.
        true_conditions: Also measure what the last stage of a cascade makes of true images made small, as
            ``fid_true_conditions`` and so on: the difference is what generated ones cost.
        per_condition: How many samples to draw of each condition image, so that only the first images serve, as many as
            are needed for all samples; none: all serve, in turn.
        predictor: A run of DensePredictor, for mask_iou, depth_error and normal_error.
    """

    def __init__(
        self,
        metrics: list[MetricName] | None = None,
        features: Features = "auto",
        inception_weights: str | None = None,
        vgg16_weights: str | None = None,
        lpips_resize: int | None = None,
        samples: int = 1000,
        reference: int = 1000,
        batch_size: int = 32,
        seed: int = 0,
        label: int | None = None,
        labels: Labels | None = None,
        paths: int = 500,
        path_length: PathName = "wend",
        intra_lpips: IntraName = "random50",
        save: str | None = None,
        every_n_steps: int = 0,
        fit_samples: int = 100,
        keep_best: str | None = None,
        patience: int | None = None,
        vit_weights: str | None = None,
        true_conditions: bool = False,
        per_condition: int | None = None,
        predictor: str | None = None,
    ) -> None:
        for name, value, least in (
            ("samples", samples, 2), ("reference", reference, 2), ("batch_size", batch_size, 1), ("seed", seed, 0),
            ("every_n_steps", every_n_steps, 0), ("fit_samples", fit_samples, 2), ("paths", paths, 2),
        ):  # fmt: skip
            check_range(f"--evaluate.{name}", value, least)
        if keep_best is not None and not every_n_steps:
            raise InputError("--evaluate.keep_best needs evaluations during fit: set --evaluate.every_n_steps")
        if patience is not None:
            check_range("--evaluate.patience", patience, 1)
            if keep_best is None:
                raise InputError("--evaluate.patience needs a value that is to become better: set --evaluate.keep_best")
        self.requests = Requests(
            metrics, features, inception_weights, vgg16_weights, lpips_resize, path_length, vit_weights, intra_lpips,
            predictor,
        )  # fmt: skip
        self.samples, self.reference, self.paths, self.true_conditions = samples, reference, paths, true_conditions
        self.conditions = Conditions("evaluate", label, labels, per_condition=per_condition, samples=samples)
        self.batch_size, self.seed = batch_size, seed
        self.save, self.every_n_steps, self.fit_samples = save, every_n_steps, fit_samples
        self.data: ImageDataModule | None = None
        """The shots and the reference; by default the trainer's data module."""
        self.used = self.requests  # once it is set up, with networks in the place of auto
        self._shown: MetricInputs | None = None
        self._evaluated_step, self._step_of_checkpoint = -1, 0
        self._best = BestCheckpoint(keep_best, self.conditions.recorded, patience)
        self._copying = CopyingWatch()
        self._by: DrawnBy
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
        option, count = ("samples", self.samples) if stage == "test" else ("fit_samples", self.fit_samples)
        self.conditions = replace(self.conditions, data=self.data, samples=count)
        if self.true_conditions:
            refuse_true_conditions(pl_module, self.data, self.conditions)
        self._shown = MetricInputs(self.data, self.reference, self.batch_size, self.true_conditions)
        there = self._shown.needs_met(pl_module, self.conditions, self.requests, count)
        names = chosen_metrics(self.requests, there, thorough=stage == "test")
        asked = replace(self.requests, condition_kind=self.data.condition_kind)
        self.used = requests = features_decided(asked, names, trainer)
        self._shown.prepare({name: build(name, requests) for name in names}, count, f"--evaluate.{option}")
        if stage == "fit":
            self._best.check(self._shown.better, requests.features)
        for logger in trainer.loggers:
            if isinstance(logger, RunWandb):
                logger.summarise(self._shown.better)

    @property
    def shown(self) -> MetricInputs:
        """The metrics and what they are shown, once it is set up."""
        assert self._shown is not None
        return self._shown

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Let go of the images."""
        if self._shown is not None:
            self._shown.forget()

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
        self._add(outputs, batch)

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compute, print and write."""
        publish_result(trainer, self._finish(trainer, pl_module, self.samples))

    # tenshot fit

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """See that the method has the conditions that are asked for.

        Raises:
            InputError: It has not.
        """
        if self.every_n_steps:
            self.conditions.of(pl_module)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """A resumed run has the evaluation of its step; its best one may have been set aside with later steps."""
        self._evaluated_step = trainer.global_step
        self._best.resume(trainer)

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
        result = self.measure(trainer, pl_module, self.fit_samples, min(self.paths, self.fit_samples))
        publish_result(trainer, result)
        began = self._copying.began(result)
        self._best.keep(trainer, result["values"])
        if began:
            step = trainer.global_step
            rank_zero_warn(f"step {step}: copying of the training images begins: {began}: {self._best.advice}")
        if self._best.exhausted:
            times = f"{self._best.patience} times since its best"
            rank_zero_info(f"step {trainer.global_step}: stopping, {self._best.by} was worse {times}")
            trainer.should_stop = True

    def state_dict(self) -> dict[str, Any]:
        """The best value so far, and of what; whether copying has begun."""
        return self._best.state_dict() | self._copying.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from it."""
        self._best.load_state_dict(state_dict)
        self._copying.load_state_dict(state_dict)

    # The work

    def measure(self, trainer: Trainer, pl_module: LightningModule, count: int, paths: int) -> dict[str, Any]:
        """Draw so many samples (and paths) with the averaged weights as they are now, and look. On all ranks.

        Returns: what the JSON file holds (docs/evaluation.md).
        """
        with averaged(trainer, pl_module):
            self._claim(trainer, pl_module, count)
            self._begin(trainer, pl_module, paths)
            sample, condition_of = cast(ImageGenerator, pl_module).sample, self.conditions.of(pl_module)
            for drawing in drawn_share(trainer, sample, count, self.seed, self.batch_size, condition_of):
                self._add(*drawing)
            return self._finish(trainer, pl_module, count)

    def _claim(self, trainer: Trainer, pl_module: LightningModule, count: int) -> None:
        """Find out what draws, and make sure that the folder for the samples is theirs, before any is drawn."""
        step = trainer.global_step if trainer.training else self._step_of_checkpoint
        self._by, self._folder = drawn_by(trainer, pl_module, self.seed, step, self.conditions), None
        if self.save is None:
            return
        path = Path(self.save) / f"step={step:08d}" if trainer.training else Path(self.save)
        with best_effort(str(path.parent)) if trainer.training else nullcontext():
            folder = DrawnFolder(path, self._by, "--evaluate.save")
            folder.claim(trainer, count)
            self._folder = folder

    def _begin(self, trainer: Trainer, pl_module: LightningModule, paths: int) -> None:
        """Forget what was generated, and show the metrics this rank's share of paths and, once, of real images."""
        for metric in self.shown.metrics.values():
            metric.reset_generated()
            if isinstance(metric, PathMetric):
                show_paths(metric, trainer, pl_module, paths, self.seed, self.batch_size)
        self.shown.show_real(trainer, pl_module.device)

    def _add(self, images: Tensor, batch: dict[str, Any]) -> None:
        """Show the metrics a batch of samples, and write it."""
        self.shown.show(images, batch)
        if self._folder is not None:
            for number, image in zip(batch["index"].tolist(), to_uint8(images), strict=True):
                write_png(image, self._folder.file(number), self._folder.mark(number))

    def _finish(self, trainer: Trainer, pl_module: LightningModule, count: int) -> dict[str, Any]:
        """What the JSON file holds (docs/evaluation.md)."""
        assert self.data is not None
        reports = self.shown.reports()
        if self.true_conditions:
            reports = beside_true_conditions(reports, trainer, self.shown, self.data, count, self.seed)
        return result_of(trainer, pl_module, self._by, count, self.data, self.shown.real, reports)
