"""The kinds of network that diffusion trains: U-Nets and classifiers of noisy images."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from lightning.pytorch.utilities import rank_zero_warn

from tenshot.checkpoints.kind import Kind, Trained, Weights
from tenshot.diffusion import DiffusionConfig
from tenshot.errors import InputError
from tenshot.models import UNet, UNetClassifier, UNetConfig
from tenshot.models.pretrained import adm_in, is_classifier, load_adm_classifier, network_in, read_adm
from tenshot.models.pretrained.adm_zoo import CLASSIFIERS

__all__ = ["CLASSIFIER", "UNET", "process_for", "refuse_other_channels", "same_weights", "with_null_class"]

C = TypeVar("C", bound=UNetConfig)


def process_for(trained: Trained[Any], asked: DiffusionConfig | None) -> DiffusionConfig:
    """The noise process to go on with: the one asked for, or that of the trained network.

    Raises:
        InputError: None is asked for, and the file does not tell its own.
    """
    if asked is None and trained.diffusion is None:
        raise InputError(f"{trained.path}: does not tell its noise process: give --model.diffusion")
    if asked is not None and trained.diffusion not in (None, asked):
        rank_zero_warn(f"{trained.path} was trained with {trained.diffusion}, not {asked}")
    process = asked or trained.diffusion
    assert process is not None
    return process


def refuse_other_channels(config: UNetConfig, process: DiffusionConfig, learns_variance: bool) -> None:
    """Compare a network's output with what its process makes of it.

    Raises:
        InputError: It has not as many channels as mean, and variance where it is learned, take.
    """
    needed = config.in_channels * (2 if learns_variance else 1)
    if config.out_channels != needed:
        raise InputError(
            f"unet.out_channels is {config.out_channels}, but variance {process.variance} of {config.in_channels} "
            f"channels needs {needed}: change --model.unet.out_channels or --model.diffusion.variance"
        )


def with_null_class(trained: Trained[UNetConfig]) -> Trained[UNetConfig]:
    """The same network with a null class, which begins as the mean of all classes where it had none.

    Raises:
        InputError: It has no classes.
    """
    if trained.config.null_class:
        return trained
    if trained.config.num_classes is None:
        raise InputError(
            f"{trained.path}: of a network without classes, in which no label can be hidden: leave out "
            "--model.label_drop and --model.unet.null_class, or take other weights"
        )
    state = trained.states["unet"]
    rows = state["class_embedding.weight"]
    grown = {**state, "class_embedding.weight": torch.cat([rows, rows.mean(dim=0, keepdim=True)])}
    return replace(trained, config=replace(trained.config, null_class=True), states={"unet": grown})


def _public_unet(
    path: str, content: Mapping[str, Any], weights: Weights, told: Mapping[str, Any]
) -> Trained[UNetConfig]:
    adm = read_adm(content, name=path, **told)
    UNET.refuse_misfit(path, adm.config, {"unet": adm.state})
    process = None
    if adm.public is not None:
        process = DiffusionConfig(
            num_steps=adm.public.num_steps,
            schedule=adm.public.schedule,
            variance="learned_range" if adm.config.out_channels == 2 * adm.config.in_channels else "fixed_large",
            rescale_timesteps=adm.public.rescale_timesteps,
        )
    heads = (
        f"{adm.config.head_channels} channels a head" if adm.config.head_channels else f"{adm.config.num_heads} heads"
    )
    origin = f"weights of {adm.public.names[0]}, by their shapes" if adm.public else "foreign weights"
    origin += f" ({heads}, {adm.config.attention_order} attention order, dropout {adm.config.dropout}"
    known = "dropout" in told or (adm.public is not None and Path(path).stem in adm.public.names)
    origin += ")" if known else ", assumed: the file cannot tell, --model.dropout sets it)"
    stage = {}
    if adm.public is not None and adm.public.low_res:
        stage = {"low_res_size": adm.public.image_size // 4, "downsample": "area"}  # that of all that are public
    return Trained(UNET, path, adm.config, {"unet": adm.state}, origin, process, stage=stage)


def _public_classifier(
    path: str, content: Mapping[str, Any], weights: Weights, told: Mapping[str, Any]
) -> Trained[UNetConfig]:
    state = network_in(content, path)
    if not is_classifier(state):
        raise InputError(f"{path}: a diffusion U-Net, not a classifier of noisy images: give the file of one")
    if (
        "out.3.weight" in state
        and "out.2.weight" not in state
        and "out.0.bias" in state
        and state["out.3.weight"].dim() == 4
    ):
        raise InputError(
            f"{path}: a classifier with the pool adaptive: methods here have those with the pool attention"
        )
    with torch.device("cpu"):  # a trainer builds networks with its GPU as the default device
        network = load_adm_classifier(state, name=path, **told)
    config, origin, process = network.config, "foreign weights", None
    shape = (config.image_size, config.num_res_blocks, tuple(map(float, config.channel_mult)), config.out_channels)
    for known in CLASSIFIERS:
        if shape == (known.image_size, known.num_res_blocks, tuple(map(float, known.channel_mult)), 1000):
            process, origin = DiffusionConfig(schedule=known.schedule), f"weights of {known.name}, by their shapes"
            break
    return Trained(CLASSIFIER, path, config, {"classifier": network.state_dict()}, origin, process)


def same_weights(config: C) -> C:
    """The one form of all architectures that differ in training alone."""
    return replace(config, dropout=0.0, checkpoint_blocks=False)


_TOLD = ("image_size", "num_res_blocks", "num_heads", "head_channels", "attention_order", "dropout")

UNET: Kind[UNetConfig] = Kind(
    name="unet",
    words="diffusion U-Net",
    method="DDPM",
    special=lambda config: "SuperResolution" if config.low_res_channels else None,
    config=UNetConfig,
    networks={"unet": UNet},
    holds=lambda content: adm_in(content) is not None and not CLASSIFIER.holds(content),
    public=_public_unet,
    options=_TOLD,
    settings=("dropout",),
    same=same_weights,
    diffuses=True,
)

CLASSIFIER: Kind[UNetConfig] = Kind(
    name="classifier",
    words="classifier of noisy images",
    method="NoisyClassifier",
    config=UNetConfig,  # of its encoder, with the number of classes as out_channels
    networks={"classifier": UNetClassifier},
    holds=lambda content: is_classifier(adm_in(content) or {}),
    public=_public_classifier,
    options=_TOLD,
    settings=("dropout",),
    same=same_weights,
    diffuses=True,
    instead="guide a DDPM by it",
)
