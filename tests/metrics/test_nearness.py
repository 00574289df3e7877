"""Nearness against its definition, and what it is for copies, for new images and for others."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tenshot.errors import InputError
from tenshot.metrics import Nearness, Report


class Flattened(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1)


def images(count: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (count, 3, 2, 2), generator=generator, dtype=torch.uint8)


def report(generated: Tensor, shots: Tensor) -> Report:
    metric = Nearness(Flattened())
    for batch in generated.split(7) if len(generated) else ():
        metric.update(batch)
    for batch in shots.split(4) if len(shots) else ():
        metric.update(batch, real=True)
    return metric.report()


def nearness(generated: Tensor, shots: Tensor) -> float:
    return next(iter(report(generated, shots).values.values()))


def by_definition(generated: Tensor, shots: Tensor) -> float:
    """Loops over samples, shots left out, and the others with their mirror images."""

    def to(image: Tensor, others: list[Tensor]) -> float:
        rows = [other for one in others for other in (one, one.flip(-1))]
        return min(float(np.square(image.numpy() - row.numpy()).sum()) for row in rows)

    generated, shots = ((pixels.float() / 127.5 - 1).double() for pixels in (generated, shots))
    found = []
    for j, left_out in enumerate(shots):
        others = [shot for i, shot in enumerate(shots) if i != j]
        limit = to(left_out, others)
        for image in generated:
            distance = to(image, others)
            found.append(0.5 if np.isclose(distance, limit, rtol=1e-9) else float(distance < limit))
    return float(np.mean(found))


@pytest.mark.parametrize("shots", [2, 3, 10])
def test_it_equals_its_definition(shots: int):
    real, generated = images(shots, 0), torch.cat([images(20, 1), images(shots, 0) // 2, images(shots, 0).flip(-1)])
    assert 0 < by_definition(generated, real) < 1
    assert nearness(generated, real) == pytest.approx(by_definition(generated, real), abs=1e-12)


def test_new_images_of_the_domain_are_at_one_half():
    """On average over shots, to four standard errors, however the domain is spread: two channels hardly vary."""
    values = []
    for seed in range(150):
        drawn = images(40, seed)
        drawn[:, 1:] //= 100
        values.append(nearness(drawn[10:], drawn[:10]))
    assert abs(np.mean(values) - 0.5) < 4 * np.std(values) / len(values) ** 0.5 < 0.06


def test_copies_mirrored_ones_too_are_near_and_others_are_far():
    shots = images(10, 0)
    for copies in (shots, shots.flip(-1)):
        assert nearness(copies.repeat(3, 1, 1, 1), shots) == pytest.approx(0.95)
    assert nearness(torch.full((5, 3, 2, 2), 255, dtype=torch.uint8), shots // 100) == 0


def test_the_gap_is_the_distance_from_one_half():
    for generated in (images(8, 1), images(10, 0)):
        value, gap = report(generated, images(10, 0)).values.values()
        assert gap == abs(value - 0.5)


def test_features_which_cannot_be_mirrored_are_refused():
    with pytest.raises(InputError, match=r"Nearness mirrors shots: give it images .*, not \(4, 5\)"):
        Nearness(nn.Identity()).update(torch.zeros(4, 5), real=True)


@pytest.mark.parametrize(("samples", "shots"), [(0, 5), (5, 1), (5, 0)])
def test_of_too_few_images_it_is_undefined(samples: int, shots: int):
    found = report(images(samples, 0), images(shots, 1))
    assert all(np.isnan(value) for value in found.values.values())
    assert f"there are {shots} shots, {samples} generated" in found.details["why"]
