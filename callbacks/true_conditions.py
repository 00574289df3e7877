"""What the last stage of a cascade makes of true images made small, measured beside what it makes of generated ones."""

from collections.abc import Mapping
from dataclasses import replace
from typing import cast

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info

from tenshot.callbacks.metric_inputs import MetricInputs
from tenshot.callbacks.shared_drawing import drawn_share
from tenshot.datamodules import ImageDataModule
from tenshot.datamodules.conditions import Conditions
from tenshot.errors import InputError
from tenshot.lightning_modules import Cascade
from tenshot.metrics.base import TRUE_CONDITIONS, Report

__all__ = ["beside_true_conditions", "refuse_true_conditions"]

OPTION = "--evaluate.true_conditions"


def refuse_true_conditions(pl_module: LightningModule, data: ImageDataModule, conditions: Conditions) -> None:
    """See that there is a stage and what it is to enlarge, before anything is drawn.

    Raises:
        InputError: The method is no cascade, one class is asked for, the data are of another size, or have no labels
            though the stage has classes.
    """
    if not isinstance(pl_module, Cascade):
        name = type(pl_module).__name__
        raise InputError(f"{OPTION} measures the last stage of a cascade, which {name} is not: leave it out")
    if conditions.label is not None:
        raise InputError(f"{OPTION} enlarges true images of all classes: leave --evaluate.label out, or this option")
    pl_module.configure_model()
    if data.image_size != pl_module.size:
        raise InputError(
            f"{OPTION} enlarges small versions of true images to {pl_module.size} px, but the data are of "
            f"{data.image_size} px: set --data.image_size {pl_module.size}"
        )
    if pl_module.generators[-1].num_classes is not None and data.train_classes() is None:
        raise InputError(f"{OPTION}: the stage has classes, but the data have no labels: set --data.labels true")


def beside_true_conditions(
    reports: Mapping[str, Report],
    trainer: Trainer,
    shown: MetricInputs,
    data: ImageDataModule,
    count: int,
    seed: int,
) -> dict[str, Report]:
    """Measure the last stage on true images made small: validation images, or training images where there are none.

    Sample i is drawn with the noise that the stage has in the cascade, from image i, and again from the first after
    the last. To be called on all ranks.

    Args:
        reports: Of the cascade's own samples, by metric.
        trainer: With the cascade.
        shown: The metrics, which keep the real images and forget the samples.
        data: Where the true images are from.
        count: How many samples to draw.
        seed: Of the samples.

    Returns:
        The reports, each followed by that of true conditions, ``frechet_true_conditions``.
    """
    cascade = cast(Cascade, trainer.lightning_module)
    stage, conditions = cascade.generators[-1], Conditions("evaluate", data=data)
    origin = conditions.enlarged(stage) or {}
    rank_zero_info(f"true conditions: the last stage enlarges {count} images, of {origin['low_res_of']}")
    for metric in shown.metrics.values():
        metric.reset_generated()
    for images, batch in drawn_share(trainer, cascade.enlarge, count, seed, shown.batch_size, conditions.of(stage)):
        shown.show(images, batch)
    both: dict[str, Report] = {}
    for name, report in shown.reports().items():
        values = {f"{key}{TRUE_CONDITIONS}": value for key, value in report.values.items()}
        of_true = replace(report, values=values, settings=report.settings | origin)
        both |= {name: reports[name], f"{name}{TRUE_CONDITIONS}": of_true}
    return both
