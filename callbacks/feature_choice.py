"""Which networks measure where the user names none: the published ones if they are to be had, else a package's."""

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.utilities import rank_zero_info

from tenshot.callbacks.metric_choice import Features, Requests, build
from tenshot.distributed.gathering import gather_objects
from tenshot.errors import InputError
from tenshot.metrics.feature_metric import FeatureMetric
from tenshot.metrics.lpips_metric import LPIPSMetric
from tenshot.metrics.path_metric import PathMetric
from tenshot.models.pretrained import Trunk, have_quickly

__all__ = ["features_decided"]

DEMANDED = "--evaluate.features published demands them"


def features_decided(requests: Requests, names: Sequence[str], trainer: Trainer) -> Requests:
    """The requests with networks in the place of ``auto``, the same on all ranks. To be called on all of them.

    They are those of the run's first evaluation, so that one curve is of one network. Else they are the published ones
    where each machine has their weights, or downloads them at the first try and soon, or where the user gives files;
    else EfficientNet-Lite0. What it is, and why, is said in one line.

    Args:
        requests: What is wanted.
        names: The metrics to compute.
        trainer: Of the run, in whose folder earlier evaluations are.
    """
    if requests.features != "auto":
        return requests
    if requests.inception_weights is not None or requests.vgg16_weights is not None:
        return replace(requests, features="published")
    published = replace(requests, features="published")
    ours = replace(requests, features="efficientnet_lite0", lpips_resize=None)
    needed = _weights(published, names)
    if not needed:
        return ours
    before = trainer.strategy.broadcast(_first_features(Path(trainer.default_root_dir) / "evaluations"))
    if before == "efficientnet_lite0":
        rank_zero_info("features: efficientnet_lite0, as in this run's earlier evaluations")
        return ours
    missing = _missing(needed) if trainer.local_rank == 0 else None
    every = gather_objects(missing) if trainer.world_size > 1 else [missing]
    reasons = [reason for reason in every if reason]
    if not reasons:
        rank_zero_info(f"features: published ({', '.join(needed)})")
        return published
    otherwise = ", otherwise than in this run's earlier evaluations" if before else ""
    unused = "; --evaluate.lpips_resize does not apply" if requests.lpips_resize is not None else ""
    rank_zero_info(f"features: efficientnet_lite0{otherwise}, for {reasons[0]}: {DEMANDED}{unused}")
    return ours


def _weights(requests: Requests, names: Sequence[str]) -> list[Trunk]:
    """The public files that metrics are read from, each once."""
    found = []
    for name in names:
        metric = build(name, requests)
        if isinstance(metric, FeatureMetric | LPIPSMetric | PathMetric) and metric.features.public_weights:
            found.append(metric.features.public_weights)
    return list(dict.fromkeys(found))


def _missing(needed: Sequence[Trunk]) -> str | None:
    """Why the files are not to be had on this machine; none if they are."""
    try:
        for name in needed:
            have_quickly(name)
    except InputError as error:
        return str(error)
    return None


def _first_features(folder: Path) -> Features | None:
    """What the first evaluation was made with, of those in a folder that were made with one of the two."""
    found: list[tuple[str, Features]] = []
    for path in folder.glob("*.json"):
        with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):  # no result of ours
            result: dict[str, Any] = json.loads(path.read_text())
            used = {str(part["settings"].get("features")) for part in result["metrics"].values()}
            if any(name.endswith("efficientnet_lite0") for name in used):
                found.append((str(result["date"]), "efficientnet_lite0"))
            elif used & {"inception", "vgg16", "lpips"}:
                found.append((str(result["date"]), "published"))
    return min(found)[1] if found else None
