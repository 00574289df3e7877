"""What drawing from a cascade costs: its samplers' network evaluations, and nothing beside them at each step."""

from collections import Counter
from typing import Any

import pytest
import tiny
import torch
from tiny_stages import NOISY, stage

from tenshot.diffusion import Corruption, DiffusionConfig
from tenshot.lightning_modules import Cascade, CascadeStage, Sampler, super_resolution


@pytest.mark.parametrize(("truncated", "evaluations"), [(False, [3, 5]), (True, [2, 5])])
def test_it_costs_the_evaluations_of_its_parts(
    monkeypatch: pytest.MonkeyPatch, truncated: bool, evaluations: list[int]
):
    """A chain stopped at s = 30 does its steps above; the condition is noised and enlarged once, not once a step."""
    small = tiny.unet_config(image_size=8, attention_resolutions=(4,))
    base = tiny.ddpm(unet=small, diffusion=DiffusionConfig(100, "cosine"), sampler=Sampler("ddpm", "3"))
    enlarges = stage(augmentation=NOISY, augmentation_s=30, sampler=Sampler("ddim", "5"))
    module = Cascade("base", [CascadeStage("stage", truncated=truncated)])
    module.generators = [base, enlarges]
    evaluated, prepared = [0] * 2, Counter[str]()

    def counting(number: int) -> Any:
        def count(*_: Any) -> None:
            evaluated[number] += 1

        return count

    def counted(name: str, function: Any) -> Any:
        return lambda *arguments: (prepared.update([name]), function(*arguments))[1]

    for number, generator in enumerate((base, enlarges)):
        generator.unet.register_forward_hook(counting(number))
    monkeypatch.setattr(super_resolution, "upsample", counted("enlarged", super_resolution.upsample))
    monkeypatch.setattr(Corruption, "noised", counted("noised", Corruption.noised))
    module.sample(torch.arange(4))
    assert evaluated == evaluations
    assert prepared == {"enlarged": 1} | ({} if truncated else {"noised": 1})
