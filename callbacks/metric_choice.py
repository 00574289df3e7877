"""Which metrics an evaluation computes, and with which networks."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from lightning.pytorch.utilities import rank_zero_info

from tenshot.errors import InputError, did_you_mean
from tenshot.metrics import METRICS, ImageMetric, MetricName, PathMetric, PerceptualPathLength, PrecisionRecall
from tenshot.metrics.base import Need
from tenshot.metrics.feature_metric import FeatureMetric
from tenshot.metrics.latent_paths import Space
from tenshot.metrics.lpips_metric import LPIPSMetric, LPIPSName
from tenshot.models.features import FeatureName

__all__ = ["Features", "PathName", "Requests", "chosen_metrics"]

Features = Literal["trained", "random", "pytorch_fid", "adm"]
PathName = Literal["wend", "wfull", "zend", "zfull"]
PATHS: dict[PathName, tuple[Space, Literal["end", "full"]]] = {
    "wend": ("w", "end"), "wfull": ("w", "full"), "zend": ("z", "end"), "zfull": ("z", "full"),
}  # fmt: skip

UNASKED: tuple[str, ...] = (
    "frechet", "kernel", "precision_recall", "intra_lpips", "nearest_lpips", "pairwise_lpips"
)  # fmt: skip
"""What is computed where nothing is named: the Inception Score is of ImageNet's classes, which few-shot sets lack."""

OF_PATHS: tuple[str, ...] = ("path_length", "path_uniformity")
"""Which draw images of their own, many more than are sampled."""

REMEDY: dict[Need, str] = {
    "condition": "samples of chosen classes: set --evaluate.labels uniform, or --evaluate.label",
    "truth": "the true image of each sample, which these data have not: give data of pairs",
    "reference": "images of the domain that were not trained on: set --data.val_root",
    "shots": "few training images: set --data.shots",
    "latents": "latents to go between, which this method has not: take a GAN",
}


@dataclass(frozen=True)
class Requests:
    """What the user asks for; see :class:`tenshot.callbacks.EvaluateGenerator`."""

    metrics: list[MetricName] | None
    features: Features
    inception_weights: str | None
    vgg16_weights: str | None
    lpips_resize: int | None
    path_length: PathName

    def __post_init__(self) -> None:
        for name in self.metrics or ():
            if name not in METRICS:
                raise InputError(
                    f"--evaluate.metrics {name!r} is unknown{did_you_mean(name, METRICS)}: choose of "
                    f"{', '.join(METRICS)}"
                )


def chosen_metrics(requests: Requests, there: Collection[str], thorough: bool) -> dict[str, ImageMetric]:
    """Build the metrics.

    Args:
        requests: What is wanted.
        there: Which needs are met: ``shots``, few training images to compare with; ``reference``, other images of
            the domain; ``latents``, between which the method can go; ``condition``, where it is chosen for each sample;
            ``truth``, the true image of each sample.
        thorough: Whether metrics that draw many images of their own are computed unasked too.

    Raises:
        InputError: A metric was named that data or method do not allow, or its weights cannot be read.
    """
    lacks = {name: [need for need in metric.needs if need not in there] for name, metric in METRICS.items()}
    if requests.metrics is not None:
        for name in requests.metrics:
            if lacks[name]:
                raise InputError(f"--evaluate.metrics {name} needs {REMEDY[lacks[name][0]]}, or leave it out")
        return {name: _build(name, requests) for name in requests.metrics}
    names = [name for name in UNASKED if not lacks[name]]
    left_out = [name for name in UNASKED if lacks[name]]
    if left_out:
        missing = {REMEDY[need] for name in left_out for need in lacks[name]}
        rank_zero_info(f"not computed: {', '.join(left_out)}, for want of {'; of '.join(sorted(missing))}")
    if thorough and "latents" in there:
        names += OF_PATHS
    return {name: _build(name, requests) for name in names}


def _build(name: str, requests: Requests) -> ImageMetric:
    trained, pytorch_fid = requests.features != "random", requests.features == "pytorch_fid"
    of_fid: FeatureName = "inception_pytorch_fid" if pytorch_fid else "inception" if trained else "random"
    inception = (of_fid, requests.inception_weights)
    vgg16: tuple[FeatureName, str | None] = ("vgg16" if trained else "random", requests.vgg16_weights)
    lpips: LPIPSName = "vgg" if trained else "random"
    lpips_arguments = (lpips, requests.vgg16_weights, requests.lpips_resize)
    metric = METRICS[name]
    if issubclass(metric, PerceptualPathLength):
        return metric(*lpips_arguments, *PATHS[requests.path_length])
    if issubclass(metric, LPIPSMetric | PathMetric):
        return metric(*lpips_arguments)
    if issubclass(metric, PrecisionRecall):
        return metric(*(inception if requests.features == "adm" else vgg16))
    return metric(*inception) if issubclass(metric, FeatureMetric) else metric()
