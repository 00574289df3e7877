from dataclasses import replace
from functools import cache

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tenshot.datamodules.faces import DOMAINS, REGIONS, FaceAttributes, face_attributes, render, render_condition
from tenshot.datamodules.faces.shapes import pixel_grid

HEADS = face_attributes(0, torch.arange(24))
ODD = 27  # a size that leaves no loop over pixels an even number of lanes


@cache
def mask_of(domain: str, size: int) -> Tensor:
    return render_condition("mask", domain, HEADS, size)


@cache
def image_of(domain: str, size: int) -> Tensor:
    return render(domain, HEADS, size)


def where(mask: Tensor, *names: str) -> Tensor:
    """Where one of these regions is, (N, H, W)."""
    return torch.isin(mask, torch.tensor([REGIONS.index(name) for name in names]))


def inner(region: Tensor, by: int) -> Tensor:
    """The pixels of a region (N, H, W) all of whose neighbours to a distance ``by`` belong to it as well."""
    outside = F.pad((~region).float(), [by] * 4, mode="replicate")
    return F.max_pool2d(outside, 2 * by + 1, stride=1) == 0


def mirrored(heads: FaceAttributes) -> FaceAttributes:
    gradient = heads.background_gradient * torch.tensor([-1, 1])
    return replace(heads, head_x=-heads.head_x, turn=-heads.turn, parting=-heads.parting, background_gradient=gradient)


@pytest.mark.parametrize("domain", DOMAINS)
def test_an_image_has_the_same_bits_in_any_company_and_order(domain: str):
    together = render(domain, HEADS, ODD)
    assert together.dtype == torch.uint8
    assert together.shape == (24, 3, ODD, ODD)
    alone = [render(domain, HEADS.take(slice(i, i + 1)), ODD) for i in (0, 23)]
    assert torch.equal(together[[0, 23]], torch.cat(alone))
    backwards = face_attributes(0, torch.arange(23, 12, -1))
    assert torch.equal(together.flip(0)[:11], render(domain, backwards, ODD))


def test_an_image_has_the_same_bits_with_any_number_of_threads():
    heads = HEADS.take(slice(0, 4))  # enough points for more than one thread
    threads = torch.get_num_threads()
    images = []
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            images.append(render("paintings", heads, ODD))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(*images)


@pytest.mark.parametrize("domain", DOMAINS)
def test_no_two_heads_look_the_same(domain: str):
    images = image_of(domain, 32).flatten(1).float()
    assert torch.pdist(images, p=1).min() / images.shape[1] > 2  # grey levels, on average over the image


@pytest.mark.parametrize("domain", DOMAINS)
def test_small_images_are_large_ones_seen_from_afar(domain: str):
    heads = HEADS.take(slice(0, 8))
    large = render(domain, heads, 128).float()
    for size in (16, 32):
        error = (F.avg_pool2d(large, 128 // size) - render(domain, heads, size)).abs()
        assert error.mean() < 2.5
        assert error.amax((1, 2, 3)).mean() < 45


@pytest.mark.parametrize("domain", ["faces", "sunglasses", "babies"])
def test_a_mirrored_head_gives_the_mirrored_image(domain: str):
    difference = image_of(domain, 64).flip(-1).int() - render(domain, mirrored(HEADS), 64).int()
    assert difference.abs().max() <= 2


@pytest.mark.parametrize("domain", ["sunglasses", "babies"])
def test_domains_share_what_lies_outside_the_head(domain: str):
    wall = inner(where(mask_of("faces", 64), "background") & where(mask_of(domain, 64), "background"), 1)
    assert wall.sum((1, 2)).min() > 500
    faces, others = image_of("faces", 64), image_of(domain, 64)
    assert torch.equal(faces.movedim(1, -1)[wall], others.movedim(1, -1)[wall])
    assert not torch.equal(faces, others)


def test_the_background_is_its_attribute():
    wall = inner(where(mask_of("faces", 64), "background"), 1)
    canvas = pixel_grid(64)
    slope = HEADS.background_gradient[:, :, None, None]
    factor = 1 + slope[:, 0] * canvas.x + slope[:, 1] * canvas.y
    expected = (HEADS.background[:, :, None, None] * factor[:, None]).clamp(0, 1) * 255
    error = (image_of("faces", 64) - expected).abs().movedim(1, -1)[wall]
    assert error.max() <= 0.51


def test_the_mask_says_where_skin_hair_and_clothes_are():
    image, mask = image_of("faces", 128).float() / 255, mask_of("faces", 128)
    for name, colour, least in (("skin", HEADS.skin, 200), ("hair", HEADS.hair, 100), ("clothes", HEADS.clothes, 20)):
        region = inner(where(mask, name), 2)[:, None]
        pixels = region.sum((2, 3))
        seen = pixels[:, 0] >= least
        assert seen.sum() >= 20
        mean = (image * region).sum((2, 3)) / pixels.clamp(min=1)
        assert (mean - colour).abs()[seen].mean() < 0.06
        assert (mean - colour).abs()[seen].max() < 0.22


def test_the_mask_shows_every_part_and_glasses_only_on_sunglasses():
    for domain in DOMAINS:
        mask = mask_of(domain, 64)
        assert mask.dtype == torch.int64
        assert mask.shape == (24, 64, 64)
        present = {REGIONS[i] for i in mask.unique()}
        assert present == set(REGIONS) - {"eyes" if domain == "sunglasses" else "glasses"}
    for name in ("background", "hair", "skin", "mouth", "glasses"):
        assert where(mask_of("sunglasses", 32), name).any((1, 2)).all()
    assert where(mask_of("sunglasses", 32), "glasses").sum((1, 2)).min() >= 25  # to be seen at 32 x 32


def test_sunglasses_are_dark_and_eyes_are_bright():
    glasses = where(mask_of("sunglasses", 64), "glasses")[:, None]
    eyes = where(mask_of("faces", 64), "eyes")[:, None]
    shaded, bare = (image_of(domain, 64).float().mean(1, keepdim=True) for domain in ("sunglasses", "faces"))
    assert ((shaded * glasses).sum((1, 2, 3)) / glasses.sum((1, 2, 3))).max() < 75
    assert (bare * eyes).amax((1, 2, 3)).min() > 180


def test_only_a_broad_smile_shows_teeth():
    inside = where(mask_of("faces", 128), "mouth")
    brightest = (image_of("faces", 128).amin(1) * inside).amax((1, 2))
    assert brightest[HEADS.mouth_curve > 0.7].min() > 220
    closed = HEADS.mouth_curve < 0.5
    palest = 255 * torch.maximum(HEADS.lips, HEADS.skin).amin(1)
    assert (brightest - palest)[closed].max() < 22  # the lamp adds some, teeth would add far more


def test_babies_have_round_heads_low_eyes_and_hardly_any_hair():
    def middle(region: Tensor) -> Tensor:
        rows = torch.arange(64.0)[:, None]
        return (region * rows).sum((1, 2)) / region.sum((1, 2))

    grown, baby = mask_of("faces", 64), mask_of("babies", 64)
    assert (where(baby, "hair").sum((1, 2)) < 0.15 * where(grown, "hair").sum((1, 2))).all()
    assert (middle(where(baby, "eyes")) > middle(where(grown, "eyes")) + 2).all()
    assert (where(baby, "eyes").sum((1, 2)) > 1.2 * where(grown, "eyes").sum((1, 2))).all()


def test_sketches_are_dark_lines_on_white():
    sketches = image_of("sketches", 64)
    assert torch.equal(sketches[:, 0], sketches[:, 1])
    assert torch.equal(sketches[:, 0], sketches[:, 2])
    wall = inner(where(mask_of("sketches", 64), "background"), 2)
    assert (sketches[:, 0][wall] == 255).all()
    assert sketches.amin((1, 2, 3)).max() < 60
    # a dark head of hair is hatched darker than a fair one
    hair = where(mask_of("sketches", 64), "hair")
    tone = (sketches[:, 0] * hair).sum((1, 2)) / hair.sum((1, 2))
    assert torch.corrcoef(torch.stack([tone, HEADS.hair.mean(1)]))[0, 1] > 0.9


def test_paintings_have_few_tones_and_visible_strokes():
    def tones(image: Tensor) -> Tensor:
        """The share of the ten most frequent grey levels."""
        counts = image[:, 0].flatten(1).int()
        return torch.stack([row.bincount(minlength=256).topk(10).values.sum() for row in counts]) / counts.shape[1]

    faces, paintings = image_of("faces", 128)[:8], render("paintings", HEADS.take(slice(0, 8)), 128)
    wall = inner(where(mask_of("faces", 128)[:8], "background"), 6)
    rough = [p.float().diff(dim=-1).abs().mean(1)[wall[..., 1:]].mean() for p in (faces, paintings)]
    assert rough[1] > 3 * rough[0]
    assert (tones(paintings[:, :1]) > tones(faces[:, :1])).float().mean() > 0.8
    assert (F.avg_pool2d(paintings.float(), 32) - F.avg_pool2d(faces.float(), 32)).abs().mean() < 30  # the same person


def test_a_head_moves_smoothly_by_fractions_of_a_pixel():
    step = 2 / 32 / 8  # an eighth of a pixel
    heads = HEADS.take(slice(0, 1))
    frames = torch.cat([render("faces", replace(heads, head_x=heads.head_x + step * i), 32).float() for i in range(9)])
    moves = (frames[1:] - frames[:-1]).abs()
    assert (moves.amax((1, 2, 3)) > 0).all()
    whole = (frames[-1] - frames[0]).abs()
    assert moves.amax() < 0.5 * whole.amax()  # no pixel flips at once
    torch.testing.assert_close(frames[-1][:, 8:24, 9:24], frames[0][:, 8:24, 8:23], rtol=0, atol=40)
