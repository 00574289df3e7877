"""Which metrics an evaluation computes, and with which networks."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from lightning.pytorch.utilities import rank_zero_info

from tenshot.errors import InputError, did_you_mean
from tenshot.metrics import (
    FrechetDistance,
    ImageMetric,
    InceptionScore,
    IntraLPIPS,
    KernelDistance,
    NearestLPIPS,
    PairwiseLPIPS,
    PathUniformity,
    PerceptualPathLength,
    PrecisionRecall,
)
from tenshot.metrics.latent_paths import Space
from tenshot.metrics.lpips_metric import LPIPSName
from tenshot.models.features import FeatureName

__all__ = ["NEEDS", "Features", "MetricName", "PathName", "Requests", "chosen_metrics"]

MetricName = Literal[
    "frechet", "kernel", "inception_score", "precision_recall", "intra_lpips", "nearest_lpips", "pairwise_lpips",
    "path_length", "path_uniformity",
]  # fmt: skip
Features = Literal["trained", "random", "pytorch_fid", "adm"]
PathName = Literal["wend", "wfull", "zend", "zfull"]
PATHS: dict[PathName, tuple[Space, Literal["end", "full"]]] = {
    "wend": ("w", "end"), "wfull": ("w", "full"), "zend": ("z", "end"), "zfull": ("z", "full"),
}  # fmt: skip

NEEDS: dict[str, Literal["reference", "shots", "latents"] | None] = {
    "frechet": "reference",
    "kernel": "reference",
    "inception_score": None,
    "precision_recall": "reference",
    "intra_lpips": "shots",
    "nearest_lpips": "shots",
    "pairwise_lpips": None,
    "path_length": "latents",
    "path_uniformity": "latents",
}
"""What each compares the samples with, or asks of the method."""

UNASKED: tuple[MetricName, ...] = (
    "frechet", "kernel", "precision_recall", "intra_lpips", "nearest_lpips", "pairwise_lpips"
)  # fmt: skip
"""What is computed where nothing is named: the Inception Score is of ImageNet's classes, which few-shot sets lack."""

OF_PATHS: tuple[MetricName, ...] = ("path_length", "path_uniformity")
"""Which draw pictures of their own, many more than are sampled."""

REMEDY = {
    "reference": "pictures of the domain that were not trained on: set --data.val_root",
    "shots": "few training pictures: set --data.shots",
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
            if name not in NEEDS:
                raise InputError(
                    f"--evaluate.metrics {name!r} is unknown{did_you_mean(name, NEEDS)}: choose of {', '.join(NEEDS)}"
                )


def chosen_metrics(requests: Requests, there: Collection[str], thorough: bool) -> dict[str, ImageMetric]:
    """Build the metrics.

    Args:
        requests: What is wanted.
        there: Which needs are met: ``shots``, few training pictures to compare with; ``reference``, other pictures of
            the domain; ``latents``, between which the method can go.
        thorough: Whether metrics that draw many pictures of their own are computed unasked too.

    Raises:
        InputError: A metric was named that data or method do not allow, or its weights cannot be read.
    """
    if requests.metrics is not None:
        for name in requests.metrics:
            need = NEEDS[name]
            if need is not None and need not in there:
                raise InputError(f"--evaluate.metrics {name} needs {REMEDY[need]}, or leave it out")
        return {name: _build(name, requests) for name in requests.metrics}
    names = [name for name in UNASKED if NEEDS[name] is None or NEEDS[name] in there]
    left_out = [name for name in UNASKED if name not in names]
    if left_out:
        missing = {REMEDY[need] for name in left_out if (need := NEEDS[name])}
        rank_zero_info(f"not computed: {', '.join(left_out)}, for want of {'; of '.join(sorted(missing))}")
    if thorough and "latents" in there:
        names += OF_PATHS
    return {name: _build(name, requests) for name in names}


def _build(name: MetricName, requests: Requests) -> ImageMetric:
    trained, pytorch_fid = requests.features != "random", requests.features == "pytorch_fid"
    of_fid: FeatureName = "inception_pytorch_fid" if pytorch_fid else "inception" if trained else "random"
    inception = (of_fid, requests.inception_weights)
    vgg16: tuple[FeatureName, str | None] = ("vgg16" if trained else "random", requests.vgg16_weights)
    lpips: LPIPSName = "vgg" if trained else "random"
    lpips_arguments = (lpips, requests.vgg16_weights, requests.lpips_resize)
    match name:
        case "frechet":
            return FrechetDistance(*inception)
        case "kernel":
            return KernelDistance(*inception)
        case "inception_score":
            return InceptionScore(*inception)
        case "precision_recall":
            return PrecisionRecall(*(inception if requests.features == "adm" else vgg16))
        case "intra_lpips":
            return IntraLPIPS(*lpips_arguments)
        case "nearest_lpips":
            return NearestLPIPS(*lpips_arguments)
        case "pairwise_lpips":
            return PairwiseLPIPS(*lpips_arguments)
        case "path_length":
            space, sampling = PATHS[requests.path_length]
            return PerceptualPathLength(*lpips_arguments, space, sampling)
        case "path_uniformity":
            return PathUniformity(*lpips_arguments)
