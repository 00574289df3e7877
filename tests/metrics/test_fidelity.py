"""Metrics of what samples were drawn from, against loops in float64 and other libraries."""

import math
from itertools import combinations
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from skimage.feature import canny
from torch import Tensor, nn

from tenshot.datamodules.pairs import ConditionKind, colours_of, distance_map
from tenshot.metrics import DepthError, DiversityLPIPS, EdgeAgreement, ImageMetric, MaskIoU, NormalError

SIDE = 12


class Drawn(nn.Module):
    """A network that finds the channels of the image itself."""

    def forward(self, x: Tensor) -> Tensor:
        return x


def images(count: int, seed: int = 0, side: int = SIDE) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (count, 3, side, side), generator=generator, dtype=torch.uint8)


def values(metric: ImageMetric) -> dict[str, float]:
    return metric.report().values


# Masks


def iou_by_sets(classes: np.ndarray, found: np.ndarray) -> list[float | None]:
    """Of each class the pixels (of all images) that both have over those that one has, among the labelled ones."""
    labelled = [tuple(place) for place in np.argwhere(classes >= 0)]
    of_mask = [{place for place in labelled if classes[place] == k} for k in range(3)]
    of_image = [{place for place in labelled if found[place] == k} for k in range(3)]
    pairs = zip(of_mask, of_image, strict=True)
    return [len(a & b) / len(a | b) if a | b else None for a, b in pairs]


@pytest.mark.parametrize("unlabelled", [None, 2])
def test_iou_is_that_of_sets_of_pixels(unlabelled: int | None):
    x, generator = images(7), torch.Generator().manual_seed(1)
    ids = torch.randint(4, (7, SIDE, SIDE), generator=generator)  # id 0 is black, which is no class
    metric = MaskIoU(Drawn(), ConditionKind("mask", unlabelled=unlabelled))
    metric.update(x[:4], colours_of(ids[:4]))
    metric.update(x[4:], colours_of(ids[4:]))
    metric.update(x[:2], colours_of(ids[5:]), real=True)
    report = metric.report()

    classes = (ids - 1).numpy().copy()
    classes[classes == (99 if unlabelled is None else unlabelled)] = -1
    for rows, masks, name in ((slice(None), classes, ""), (slice(2), classes[5:], "_true_images")):
        found = x[rows].argmax(1).numpy()
        expected = iou_by_sets(masks, found)
        assert report.details[f"class_iou{name}"] == expected
        defined = [value for value in expected if value is not None]
        assert report.values[f"miou{name}"] == pytest.approx(sum(defined) / len(defined), rel=1e-12)
        right = (masks == found)[masks >= 0].mean()
        assert report.values[f"pixel_accuracy{name}"] == pytest.approx(right, rel=1e-6)
    assert (report.settings["n_generated"], report.settings["n_real"]) == (7, 2)


def test_a_class_that_neither_has_does_not_count_and_one_that_is_found_alone_counts_as_0():
    x = torch.zeros(1, 3, 4, 4, dtype=torch.uint8)
    x[:, 0], x[:, 1, :1] = 100, 200  # a row of class 1, the rest of class 0, nothing of class 2
    of_0 = MaskIoU(Drawn())
    of_0.update(x, colours_of(torch.ones(1, 4, 4)))  # class 0 alone
    report = of_0.report()
    assert report.details["class_iou"] == [0.75, 0.0, None]
    assert report.values["miou"] == 0.375
    assert math.isnan(report.values["miou_true_images"])


def test_masks_come_to_the_size_of_the_images_by_the_nearest_pixel():
    x, ids = images(3), torch.randint(1, 4, (3, 2 * SIDE, 2 * SIDE), generator=torch.Generator().manual_seed(0))
    large, small = MaskIoU(Drawn()), MaskIoU(Drawn())
    large.update(x, colours_of(ids))
    small.update(x, colours_of(ids[:, 1::2, 1::2]))
    assert values(large)["miou"] == values(small)["miou"]
    again = MaskIoU(Drawn())
    again.update(x, colours_of(ids[:, 1::2, 1::2].repeat_interleave(3, 1).repeat_interleave(3, 2)))
    assert values(again)["miou"] == values(small)["miou"]


def test_a_mask_with_a_class_that_the_segmenter_lacks_is_refused():
    tiny.refusal(
        lambda: MaskIoU(Drawn()).update(images(1), colours_of(torch.full((1, SIDE, SIDE), 6))),
        "a mask has class 5, the segmenter 3 classes",
    )


# Sketches


def near(pixels: np.ndarray, others: np.ndarray, tolerance: float) -> tuple[int, int]:
    """By all distances of two pixels."""
    mine, theirs = np.argwhere(pixels), np.argwhere(others)
    distance = np.sqrt(((mine[:, None] - theirs[None]) ** 2).sum(-1))
    return int((distance.min(1) <= tolerance).sum()) if len(theirs) and len(mine) else 0, len(mine)


@pytest.mark.parametrize("tolerance", [None, 2.5])
def test_edges_agree_as_all_distances_of_two_pixels_say(tolerance: float | None):
    side, count = 48, 3
    x = images(count, side=6).repeat_interleave(8, 2).repeat_interleave(8, 3)  # squares, which have edges
    lines = torch.rand(count, 1, side, side, generator=torch.Generator().manual_seed(0)) > 0.97
    metric = EdgeAgreement(ConditionKind("sketch", edge_sigma=4.0), tolerance)
    for one in range(count):
        metric.update(x[one, None], distance_map(lines[one, None]))
    metric.update(x, distance_map(lines.flip(-1)), real=True)
    report = metric.report()

    edges = [canny(np.tensordot(np.array([0.299, 0.587, 0.114]), one.numpy() / 255, 1), 0.75) for one in x]
    for drawn, name in ((lines[:, 0], ""), (lines[:, 0].flip(-1), "_true_images")):
        pairs = list(zip(edges, drawn.numpy(), strict=True))
        found = np.sum([near(a, b, tolerance or 1) for a, b in pairs], axis=0)
        drawn_too = np.sum([near(b, a, tolerance or 1) for a, b in pairs], axis=0)
        precision, recall = found[0] / found[1], drawn_too[0] / drawn_too[1]
        assert 0 < precision < 1
        assert report.values[f"edge_precision{name}"] == pytest.approx(precision, rel=1e-12)
        assert report.values[f"edge_recall{name}"] == pytest.approx(recall, rel=1e-12)
        assert report.values[f"edge_f1{name}"] == pytest.approx(2 / (1 / precision + 1 / recall), rel=1e-12)


def test_edges_of_a_sketch_s_own_image_agree_and_those_of_a_plain_image_do_not():
    x = images(2, side=6).repeat_interleave(8, 2).repeat_interleave(8, 3)
    edges = [canny(np.tensordot(np.array([0.299, 0.587, 0.114]), one.numpy() / 255, 1), 2 * 48 / 256) for one in x]
    sketch = distance_map(torch.from_numpy(np.stack(edges))[:, None])
    metric = EdgeAgreement()
    metric.update(x, sketch, real=True)
    metric.update(torch.full_like(x, 90), sketch)
    report = metric.report()
    assert [report.values[f"edge_{name}_true_images"] for name in ("f1", "precision", "recall")] == [1, 1, 1]
    assert (report.values["edge_f1"], report.values["edge_recall"]) == (0, 0)
    assert math.isnan(report.values["edge_precision"])
    assert report.details["why"]


def test_samples_are_enlarged_to_their_sketch():
    x = images(1, side=6).repeat_interleave(4, 2).repeat_interleave(4, 3)
    lines = torch.zeros(1, 1, 48, 48, dtype=torch.bool)
    lines[..., ::8], lines[..., ::8, :] = True, True
    small, large = EdgeAgreement(), EdgeAgreement()
    small.update(x, distance_map(lines))
    large.update(x.repeat_interleave(2, 2).repeat_interleave(2, 3), distance_map(lines))
    assert values(small)["edge_f1"] == pytest.approx(values(large)["edge_f1"], abs=0.1)
    assert values(small)["edge_recall"] > 0.5


# Depth and normals


def test_depth_is_scaled_and_shifted_by_least_squares_for_each_image():
    x, maps = images(5), images(5, 1)[:, :1].clone()
    maps[:, :, :2] = 0  # no depth
    maps[4] = 0  # an image without any
    metric = DepthError(Drawn())
    metric.update(x, maps.expand(-1, 3, -1, -1))
    metric.update(255 - maps.expand(-1, 3, -1, -1), maps.expand(-1, 3, -1, -1), real=True)
    report = metric.report()

    errors = []
    for image, depth in zip(x[:4, 2].double().numpy(), maps[:4, 0].double().numpy() / 255, strict=True):
        guess, true = image[depth > 0] / 127.5 - 1, depth[depth > 0]
        a = np.stack([guess, np.ones_like(guess)], 1)
        fitted = a @ np.linalg.lstsq(a, true, rcond=None)[0]
        errors.append([np.sqrt(((fitted - true) ** 2).mean()), (np.abs(fitted - true) / true).mean()])
    rmse, relative = np.mean(errors, axis=0)
    assert report.values["depth_rmse"] == pytest.approx(rmse, rel=1e-6)
    assert report.values["depth_abs_rel"] == pytest.approx(relative, rel=1e-6)
    assert report.values["depth_rmse_true_images"] < 1e-6  # of another sign, scale and shift alone
    assert report.settings["n_generated"] == 4


def test_a_plain_guess_has_the_spread_of_the_depth_as_its_error():
    maps = images(1, 1)[:, :1].clamp(min=1).expand(-1, 3, -1, -1)
    metric = DepthError(Drawn())
    metric.update(torch.full_like(maps, 50), maps)
    assert values(metric)["depth_rmse"] == pytest.approx((maps[0, 0] / 255).double().std(correction=0).item(), rel=1e-6)


def test_depth_in_colours_is_refused():
    tiny.refusal(lambda: DepthError(Drawn()).update(images(1), images(1)), "depth maps in colours")


def test_normals_are_compared_by_their_angle():
    x, maps = images(3), images(3, 1).clone()
    maps[:, :, :3] = 0  # no normal
    metric = NormalError(Drawn())
    metric.update(x, maps)
    metric.update(maps, maps, real=True)
    report = metric.report()
    a, b = (t[:, :, 3:].double().numpy() / 127.5 - 1 for t in (x, maps))
    cosine = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    assert report.values["normal_degrees"] == pytest.approx(np.degrees(np.arccos(cosine)).mean(), rel=1e-6)
    assert report.values["normal_degrees_true_images"] == pytest.approx(0, abs=1e-4)


# Diversity


def test_diversity_is_the_mean_over_pairs_of_a_condition_then_over_conditions():
    rows, pairs = torch.randn(11, 5, generator=torch.Generator().manual_seed(0)), [0, 7, 7, 2, 0, 7, 5, 0, 2, 7, 0]
    metric = DiversityLPIPS(nn.Identity())
    metric.update(rows[:4], torch.tensor(pairs[:4]))
    metric.update(rows[4:], torch.tensor(pairs[4:]))
    report = metric.report()
    means = []
    for number in (0, 2, 7):  # pair 5 has one image
        members = rows[[place for place, pair in enumerate(pairs) if pair == number]].double().numpy()
        means.append(np.mean([((a - b) ** 2).sum() for a, b in combinations(members, 2)]))
    assert report.values == {"diversity_dist_custom": pytest.approx(np.mean(means), rel=1e-6)}
    assert report.settings["conditions"] == 3
    assert report.settings["images_per_condition"] == {"fewest": 2, "most": 4}


def test_images_that_depend_on_their_condition_alone_have_no_diversity():
    metric = DiversityLPIPS("random")
    x = images(3, side=32)
    metric.update(x.repeat(2, 1, 1, 1), torch.arange(6) % 3)
    assert values(metric)["diversity_dist_random"] == pytest.approx(0, abs=1e-6)
    metric.reset_generated()
    metric.update(x, torch.arange(3))
    report: Any = metric.report()
    assert math.isnan(report.values["diversity_dist_random"])
    assert report.details["why"] == "each condition has one image: several are needed"
