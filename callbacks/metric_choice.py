"""Which metrics an evaluation computes, and with which networks."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal, get_args

from lightning.pytorch.utilities import rank_zero_info

from tenshot.datamodules.pairs import ConditionKind
from tenshot.errors import InputError, did_you_mean
from tenshot.metrics import (
    CMMD,
    METRICS,
    DensityCoverage,
    EdgeAgreement,
    ImageMetric,
    IntraLPIPS,
    KernelDistance,
    MetricName,
    PathMetric,
    PerceptualPathLength,
    PrecisionRecall,
    PredictorMetric,
)
from tenshot.metrics.base import Need
from tenshot.metrics.feature_metric import FeatureMetric
from tenshot.metrics.latent_paths import Space
from tenshot.metrics.lpips_metric import LPIPSMetric, LPIPSName
from tenshot.models.features import FeatureName

__all__ = ["Features", "IntraName", "PathName", "Requests", "build", "chosen_metrics"]

Features = Literal["auto", "published", "efficientnet_lite0", "dinov2", "clip", "random", "pytorch_fid", "adm"]
PathName = Literal["wend", "wfull", "zend", "zfull"]
PATHS: dict[PathName, tuple[Space, Literal["end", "full"]]] = {
    "wend": ("w", "end"), "wfull": ("w", "full"), "zend": ("z", "end"), "zfull": ("z", "full"),
}  # fmt: skip

IntraName = Literal["random50", "first50", "first100"]
MEMBERS: dict[IntraName, tuple[int, Literal["random", "first"]]] = {
    "random50": (50, "random"), "first50": (50, "first"), "first100": (100, "first"),
}  # fmt: skip
"""Which members of a cluster count, at most: of CDC's protocol, and of CRDI's command and of its default."""

UNASKED: tuple[str, ...] = (
    "frechet", "kernel", "precision_recall", "density_coverage", "vendi", "intra_lpips", "nearest_lpips",
    "pairwise_lpips", "authenticity", "data_copying", "near_copies", "nearness",
)  # fmt: skip
"""What is computed where nothing is named: the Inception Score is of ImageNet's classes, which few-shot sets lack."""

OF_PATHS: tuple[str, ...] = ("path_length", "path_uniformity")
"""Which draw images of their own, many more than are sampled."""

OF_CONDITIONS: tuple[str, ...] = ("mask_iou", "edge_agreement", "depth_error", "normal_error", "diversity_lpips")
"""What is computed where nothing is named and samples are drawn from condition images."""

REMEDY: dict[Need, str] = {
    "condition": "samples of chosen classes: set --evaluate.labels uniform, or --evaluate.label",
    "truth": "the true image of each sample, which these data have not: give data of pairs",
    "reference": "images of the domain that were not trained on: set --data.val_root",
    "shots": "few training images: set --data.shots",
    "low_res": "images that were enlarged: take a SuperResolution",
    "mask": "samples drawn from masks: take PITI and data with masks",
    "sketch": "samples drawn from sketches: take PITI and data with sketches",
    "depth": "samples drawn from depth: take PITI and data with depth",
    "normals": "samples drawn from normals: take PITI and data with normals",
    "pair": "samples drawn from condition images: take PITI",
    "repeats": "several samples of each condition: set --evaluate.per_condition 5, for example",
    "predictor": "a network that finds the condition in an image: train one with tenshot fit --model DensePredictor on "
    "the same data (docs/evaluation.md) and give its run with --evaluate.predictor",
    "edge_detector": "scikit-image: pip install 'tenshot[sketches]'",
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
    vit_weights: str | None = None
    intra_lpips: IntraName = "random50"
    predictor: str | None = None
    condition_kind: ConditionKind | None = None
    """What the condition images of the data show."""

    def __post_init__(self) -> None:
        for name in self.metrics or ():
            if name not in METRICS:
                raise InputError(
                    f"--evaluate.metrics {name!r} is unknown{did_you_mean(name, METRICS)}: choose of "
                    f"{', '.join(METRICS)}"
                )
        if self.intra_lpips not in MEMBERS:
            raise InputError(
                f"--evaluate.intra_lpips {self.intra_lpips!r} is unknown: choose one of {', '.join(MEMBERS)}"
            )
        if self.features not in get_args(Features):
            renamed, known = (
                " (now called published)" if self.features == "trained" else "",
                ", ".join(get_args(Features)),
            )
            raise InputError(f"--evaluate.features {self.features!r} is unknown{renamed}: choose one of {known}")
        if self.features in ("efficientnet_lite0", "dinov2", "clip") and self.lpips_resize is not None:
            raise InputError(
                "--evaluate.lpips_resize is for LPIPS, but efficientnet_lite0 resizes images by itself: leave it out"
            )
        if (self.features in ("dinov2", "clip")) != (self.vit_weights is not None):
            raise InputError(
                "--evaluate.vit_weights is the file of --evaluate.features dinov2 or clip, which need one, and of no "
                "others: docs/evaluation.md says which files"
            )


def chosen_metrics(requests: Requests, there: Collection[str], thorough: bool) -> list[str]:
    """Names of the metrics to compute.

    Args:
        requests: What is wanted.
        there: Which needs are met: ``shots``, few training images to compare with; ``reference``, other images of
            the domain; ``latents``, between which the method can go; ``condition``, where it is chosen for each sample;
            ``truth``, the true image of each sample; ``low_res``, the small image that each was enlarged from; and so
            on, see ``Need``.
        thorough: Whether metrics that draw many images of their own are computed unasked too.

    Raises:
        InputError: A metric was named that data or method do not allow, or none is left.
    """
    lacks = {name: [need for need in metric.needs if need not in there] for name, metric in METRICS.items()}
    if requests.metrics is not None:
        for name in requests.metrics:
            if lacks[name]:
                raise InputError(f"--evaluate.metrics {name} needs {REMEDY[lacks[name][0]]}, or leave it out")
        if not requests.metrics:
            raise InputError(
                "there is nothing to compare samples with: set --data.shots, or --data.val_root to other images of "
                "the domain"
            )
        return list(requests.metrics)
    names = [name for name in UNASKED if not lacks[name]]
    left_out = [name for name in UNASKED if lacks[name]]
    if left_out:
        missing = {REMEDY[need] for name in left_out for need in lacks[name]}
        rank_zero_info(f"not computed: {', '.join(left_out)}, for want of {'; of '.join(sorted(missing))}")
    if thorough and "latents" in there:
        names += OF_PATHS
    if "low_res" in there:
        names.append("consistency")
    for one in OF_CONDITIONS:
        subject, *means = METRICS[one].needs
        if subject in there and (lacking := [need for need in means if need not in there]):
            rank_zero_info(f"not computed: {one}, for want of {REMEDY[lacking[0]]}")
        elif subject in there:
            names.append(one)
    return names


def build(name: str, requests: Requests) -> ImageMetric:
    """The metric of that name, with the networks that are asked for, which by now are not ``auto``."""
    of_fid: FeatureName = "inception_pytorch_fid" if requests.features == "pytorch_fid" else "inception"
    of_precision: FeatureName = "vgg16"
    lpips: LPIPSName = "vgg"
    if requests.features == "efficientnet_lite0" or requests.features == "random":
        of_fid = of_precision = lpips = requests.features
    elif requests.features == "dinov2" or requests.features == "clip":
        of_fid = of_precision = requests.features
        lpips = "efficientnet_lite0"
    inception = (of_fid, requests.vit_weights or requests.inception_weights)
    vgg16 = (of_precision, requests.vit_weights or requests.vgg16_weights)
    lpips_arguments = (lpips, requests.vgg16_weights, requests.lpips_resize)
    metric = METRICS[name]
    if issubclass(metric, KernelDistance) and requests.features == "clip":
        return CMMD(*inception)
    if issubclass(metric, PerceptualPathLength):
        return metric(*lpips_arguments, *PATHS[requests.path_length])
    if issubclass(metric, IntraLPIPS):
        return metric(*lpips_arguments, *MEMBERS[requests.intra_lpips])
    if issubclass(metric, LPIPSMetric | PathMetric):
        return metric(*lpips_arguments)
    if issubclass(metric, PredictorMetric):
        assert requests.predictor is not None
        assert requests.condition_kind is not None
        return metric(requests.predictor, requests.condition_kind)
    if issubclass(metric, EdgeAgreement):
        return metric(requests.condition_kind)
    if issubclass(metric, PrecisionRecall | DensityCoverage):
        return metric(*(inception if requests.features == "adm" else vgg16))
    return metric(*inception) if issubclass(metric, FeatureMetric) else metric()
