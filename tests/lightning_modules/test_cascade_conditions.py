"""A cascade whose base or stages draw from condition images: each is told what it was trained with."""

from pathlib import Path
from typing import Any

import pytest
import tiny
import tiny_piti
import torch
from PIL import Image
from tiny_conditions import cascade, part, parts
from tiny_stages import saved, stage
from torch import Tensor

from tenshot.datamodules.pairs import distance_map
from tenshot.lightning_modules import PITI, Cascade, CascadeStage, ClassifierFreeGuidance, PITIUpsampler
from tenshot.lightning_modules.cascade import stage_seeds
from tenshot.lightning_modules.cascade_conditions import resized
from tenshot.lightning_modules.piti_upsampler import PUBLISHED

SEEDS = (3 << 32) + torch.arange(3)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return parts(tmp_path_factory.mktemp("conditions"))


def halved(masks: Tensor) -> Tensor:
    """By Pillow: uint8 (N, 3, S, S) -> (N, 3, S / 2, S / 2)."""
    side = masks.shape[-1] // 2
    images = [Image.fromarray(mask.permute(1, 2, 0).numpy()) for mask in masks]
    small = [
        torch.frombuffer(bytearray(image.resize((side, side), 0).tobytes()), dtype=torch.uint8) for image in images
    ]
    return torch.stack(small).view(-1, side, side, 3).permute(0, 3, 1, 2)


def loaded(kind: type[Any], path: str, **arguments: Any) -> Any:
    module = kind(init_from=path, **({"sampler": tiny.QUICK} | arguments))
    module.configure_model()
    return module


def test_base_and_upsampler_draw_from_one_mask_each_at_its_own_size(files: Path):
    module, masks = cascade(files), tiny_piti.masks(3)
    base, upsampler = loaded(PITI, part(files, "base")), loaded(PITIUpsampler, part(files, "upsampler"))
    small = base.sample(SEEDS, {"condition_image": halved(masks)})
    expected = upsampler.sample(stage_seeds(SEEDS, 1), {"low_res": small, "condition_image": masks})
    assert module.condition_name == "condition_image"
    assert torch.equal(module.sample(SEEDS, {"condition_image": masks}), expected)
    one_by_one = [module.sample(SEEDS[i : i + 1], {"condition_image": masks[i : i + 1]}) for i in range(3)]
    assert torch.equal(torch.cat(one_by_one), expected)
    told = {"low_res": small, "condition_image": masks}
    assert torch.equal(module.enlarge(SEEDS, told), expected)


def test_a_base_of_masks_and_a_super_resolution_stage(files: Path, tmp_path: Path):
    path = saved(tmp_path, tiny.randomised(stage(unet=tiny.unet_config(**tiny.SMALL))))
    module = Cascade(part(files, "base"), [CascadeStage(path, sampler=tiny.QUICK)], base_sampler=tiny.QUICK)
    module.configure_model()
    masks = tiny_piti.masks(3)
    small = loaded(PITI, part(files, "base")).sample(SEEDS, {"condition_image": halved(masks)})
    expected = module.generators[1].sample(stage_seeds(SEEDS, 1), {"low_res": small})
    assert torch.equal(module.sample(SEEDS, {"condition_image": masks}), expected)


def test_an_upsampler_is_drawn_as_published_where_nothing_is_said(files: Path):
    module = cascade(files, stage={"sampler": None})
    assert module.generators[1].sampler == PUBLISHED  # type: ignore[union-attr]
    assert module.generators[1].sampler.temperature == 0.997  # type: ignore[union-attr]
    quick = Cascade(module.base, [CascadeStage(part(files, "upsampler"), sampler=tiny.QUICK)], base_sampler=tiny.QUICK)
    module.draw_as(quick)
    given = {"condition_image": tiny_piti.masks(1)}
    assert torch.equal(module.sample(SEEDS[:1], given), cascade(files).sample(SEEDS[:1], given))


def test_its_base_is_guided(files: Path):
    given = {"condition_image": tiny_piti.masks(2)}
    plain = cascade(files).sample(SEEDS[:2], given)
    guided = cascade(files, base_classifier_free=ClassifierFreeGuidance(3.0)).sample(SEEDS[:2], given)
    assert not torch.equal(plain, guided)


def test_its_bound_is_that_of_its_parts(files: Path, tmp_path: Path):
    """Per dimension of the last images; the base's are a quarter of them."""
    module, data = cascade(files, bits_per_dim="3"), tiny_piti.pairs(num_val=4)
    [values] = tiny.trainer(tmp_path, 1, ema=None).validate(module, data, verbose=False)
    base, last = (values[f"val/bits_per_dim_{name}"] for name in ("base", "stage0"))
    assert values["val/bits_per_dim"] == pytest.approx(base / 4 + last, rel=1e-5)
    assert base > 0
    assert last > 0


@pytest.mark.parametrize("side", [8, 5])
def test_a_smaller_sketch_keeps_every_line(side: int):
    lines = torch.zeros(2, 16, 16, dtype=torch.bool)
    lines[0, 10, 3:12] = lines[1, 5:14, 7] = True  # one pixel wide
    ours = resized(distance_map(lines)[:, None], side)
    expected = torch.zeros(2, side, side, dtype=torch.bool)
    for image, row, column in lines.nonzero().tolist():  # a cell that holds a part of a pixel with a line
        for i in range(side):
            for j in range(side):
                inside = i * 16 < (row + 1) * side and row * side < (i + 1) * 16
                inside = inside and j * 16 < (column + 1) * side and column * side < (j + 1) * 16
                expected[image, i, j] |= inside
    assert torch.equal(ours[:, 0] == 0, expected)
    assert torch.equal(ours[:, 0], distance_map(expected))
    floats = resized(distance_map(lines)[:, None] / 127.5 - 1, side)
    assert torch.equal(floats, ours / 127.5 - 1)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("augmentation_s", 3), ("truncated", True), ("start_step", 3),
        ("classifier_free", ClassifierFreeGuidance(2.0)),
    ],
)  # fmt: skip
def test_what_an_upsampler_has_not_is_refused(files: Path, option: str, value: Any):
    words = f"--model.stages[0].{option} is not of a PITIUpsampler"
    tiny.refusal(lambda: cascade(files, stage={option: value}), words, "leave it out")


def test_parts_and_conditions_that_do_not_fit_are_one_line(files: Path, tmp_path: Path):
    upsampler = part(files, "upsampler")
    tiny.refusal(
        lambda: Cascade(upsampler, [CascadeStage(upsampler)]).configure_model(), "--model.base", "--model.stages"
    )
    small = {"condition_image": tiny_piti.masks(2)[..., :16, :16]}
    words = "condition images of 16 px", "takes them of 32 px", "--data.condition_size 32"
    tiny.refusal(lambda: cascade(files).sample(SEEDS[:2], small), *words)
    sketches = parts(tmp_path, condition_channels=1)
    words = "--model.stages[0].checkpoint", "of 3 channels", "from those of 1"
    tiny.refusal(lambda: cascade(sketches), *words)
