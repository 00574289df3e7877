"""A cascade from masks that takes a test no time: 8 px from masks of 16 px, then 16 px from masks of 32 px."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import tiny
import tiny_piti
import tiny_upsampler
from tiny_stages import saved

from tenshot.lightning_modules import Cascade, CascadeStage

BASE = replace(tiny_piti.TINY, image_size=8, condition_size=16)
SAMPLER = {"method": "ddim", "steps": "ddim2"}


def parts(folder: Path, **base: Any) -> Path:
    """``base`` and ``upsampler`` in the folder."""
    for name, module in (
        ("base", tiny_piti.piti(piti=replace(BASE, **base), condition_drop=0.2)),
        ("upsampler", tiny_upsampler.upsampler()),
    ):
        (folder / name).mkdir()
        saved(folder / name, tiny.randomised(module, len(name)))
    return folder


def part(folder: Path, name: str) -> str:
    return str(folder / name / "saved.ckpt")


def cascade(folder: Path, **arguments: Any) -> Cascade:
    stages = [CascadeStage(part(folder, "upsampler"), **({"sampler": tiny.QUICK} | arguments.pop("stage", {})))]
    module = Cascade(part(folder, "base"), stages, **({"base_sampler": tiny.QUICK} | arguments))
    module.configure_model()
    return module
