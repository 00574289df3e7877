"""Shipped recipes at a size that takes a test no time."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import glide_files
import tiny
from tiny_piti import TINY

from tenshot.checkpoints.shipped import PREFIX

__all__ = ["as_config", "debug_size"]


def debug_size(recipe: dict[str, Any], folder: Path) -> list[str]:
    """The options that make a recipe small. What else it says, its data and what it starts from, stays as it is.

    Args:
        recipe: What its file holds.
        folder: Of the run.
    """
    method, data = recipe["model"]["init_args"], recipe["data"]["init_args"]
    words = ["--trainer.max_steps", "1", "--trainer.accelerator", "cpu", "--trainer.devices", "1"]
    words += ["--trainer.precision", "32-true", "--trainer.default_root_dir", str(folder), "--images.count", "1"]
    words += ["--trainer.enable_progress_bar", "false", "--trainer.limit_val_batches", "1"]
    batch = 2 if recipe["model"]["class_path"] == "MixDL" else 3  # others compare three; MixDL judges twice as many
    words += ["--grid.count", "1", "--grid.columns", "1", "--data.batch_size", str(batch)]
    adversarial = recipe["model"]["class_path"] in ("StyleGAN2", "CDC", "MixDL")
    words += ["--data.image_size", "32" if adversarial else "16"]
    if "stylegan2" in method:
        for name, value in asdict(tiny.STYLEGAN2).items():
            words += [f"--model.stylegan2.{name}", str(value)]
    for part in {"unet", "classifier", "predictor"} & method.keys():
        unet = {name: value for name, value in tiny.UNET.items() if name != "head_channels"}
        if method[part].get("head_channels"):
            unet["head_channels"] = 32
        for name, value in unet.items():
            words += [f"--model.{part}.{name}", str(list(value) if isinstance(value, tuple) else value)]
    if recipe["model"]["class_path"] == "PITIUpsampler":
        words += ["--model.low_res_size", "8", "--model.perceptual.network", "efficientnet_lite0"]
        words += ["--model.adversary.channels", "4", "--model.adversary.layers", "2", "--model.losses_from", "0"]
    if recipe["model"]["class_path"].startswith("PITI"):
        words += ["--data.condition_size", str(TINY.condition_size)]
        start = method.get("init_from", "")
        small = {name: getattr(TINY, name) for name in (*tiny.UNET, *glide_files.CONDITION, "context_channels")}
        if start.startswith(PREFIX):  # a diffusion model as tiny.ddpm() is
            source = tiny.unet_config()
            small |= {name: getattr(source, name) for name in (*tiny.UNET, "resample", "out_channels")}
        if start.startswith("runs/"):  # a PITI as tiny_piti.TINY is
            small |= {name: getattr(TINY, name) for name in ("resample", "norm_groups", "out_channels")}
        of_network = "piti" in method or not start.startswith("runs/")  # else a PITI tells all
        for name, value in small.items() if of_network else ():
            words += [f"--model.piti.{name}", str(list(value) if isinstance(value, tuple) else value)]
    if recipe["model"]["class_path"] == "SuperResolution":
        words += ["--model.low_res_size", "8"]
    if "network" in method:
        words += ["--model.network", "resnet18", "--model.crop", "14"]
    if method.get("bits_per_dim") is not None:
        words += ["--model.bits_per_dim", "2"]
    if "sampler" in method:
        words += ["--model.sampler.steps", "3", "--model.preview_sampler.steps", "2"]
    for name, most in (("shots", 5), ("num_val", 2), ("num_images", 10)):
        if isinstance(data.get(name), int):
            words += [f"--data.{name}", str(min(data[name], most))]
    if "num_workers" in data:
        words += ["--data.num_workers", "0"]
    return words


def as_config(words: list[str], path: Path) -> list[str]:
    """The same options, written into a file, with the words that name it.

    Each option of a method or of data on the command line has all options of that class parsed again.
    """
    content: dict[str, Any] = {}
    for option, value in zip(words[::2], words[1::2], strict=True):
        group, *names = option.removeprefix("--").split(".")
        *above, name = [group, *(["init_args"] if group in ("model", "data") else []), *names]
        inner = content
        for each in above:
            inner = inner.setdefault(each, {})
        inner[name] = value  # read as on the command line
    return ["--config", str(tiny.write_yaml(path, content))]
