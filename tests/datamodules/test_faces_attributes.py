import colorsys
from dataclasses import fields
from zlib import crc32

import pytest
import torch

from tenshot.datamodules.faces import HAIR_LENGTHS, MOUTHS, NUM_LABELS, FaceAttributes, face_attributes, face_labels
from tenshot.datamodules.faces.attributes import _hsv
from tenshot.datamodules.faces.counter import hash_keys, lattice, uniform

MANY = face_attributes(3, torch.arange(4000))
NUMBERS = [f.name for f in fields(FaceAttributes) if getattr(MANY, f.name).shape == (4000,) and f.name != "texture"]


def in_python(seed: int, index: int, name: str) -> int:
    """The hash in Python's whole numbers."""
    word, golden = 2**64 - 1, 0x9E3779B97F4A7C15

    def mix(z: int) -> int:
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 & word
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB & word
        return z ^ (z >> 31)

    def chain(key: int, counter: int) -> int:
        return mix(mix(key + golden & word) ^ (counter * golden & word))

    return chain(chain(seed & word, crc32(name.encode())), index)


def same(a: FaceAttributes, b: FaceAttributes) -> bool:
    return all(torch.equal(getattr(a, field.name), getattr(b, field.name)) for field in fields(FaceAttributes))


@pytest.mark.parametrize("seed", [0, 7, 2**40])
def test_the_hash_is_the_one_of_whole_number_arithmetic(seed: int):
    indices = torch.tensor([0, 1, 12345, 2**33])
    expected = [in_python(seed, int(i), "turn") for i in indices]
    assert hash_keys(seed, indices, "turn").tolist() == expected
    torch.testing.assert_close(
        uniform(seed, indices, "turn"), torch.tensor([(word >> 40) / 2**24 for word in expected]), rtol=0, atol=0
    )


def test_a_head_does_not_depend_on_the_company_it_is_drawn_in():
    some = torch.tensor([17, 3, 9999, 3])
    together = face_attributes(5, some)
    for row, index in enumerate(some):
        assert same(together.take(slice(row, row + 1)), face_attributes(5, index[None]))
    assert same(MANY.take(slice(100, 110)), face_attributes(3, torch.arange(100, 110)))


def test_seed_and_index_both_matter():
    assert not torch.equal(face_attributes(0, torch.arange(50)).turn, face_attributes(1, torch.arange(50)).turn)
    assert len(MANY.texture.unique()) == 4000
    assert len(lattice(MANY.texture[:2], 4, 4, 0).unique()) == 32  # no two nodes, no two images share a number
    assert not torch.equal(lattice(MANY.texture[:2], 4, 4, 0), lattice(MANY.texture[:2], 4, 4, 1))


@pytest.mark.parametrize("name", [name for name in NUMBERS if name not in ("hair_length", "mouth_curve")])
def test_every_attribute_spreads_over_its_range(name: str):
    value = getattr(MANY, name).double()
    share = torch.histc((value - value.min()) / (value.max() - value.min()), 10, 0, 1) / len(value)
    assert (share - 0.1).abs().max() < 0.02  # uniform: a share has a standard deviation of 0.005


def test_no_attribute_tells_another():
    values = torch.stack([getattr(MANY, name).double() for name in NUMBERS])
    assert len(NUMBERS) >= 18
    assert (torch.corrcoef(values) - torch.eye(len(NUMBERS))).abs().max() < 0.08  # five standard deviations


def test_colours_are_colours_and_skin_darkens_with_its_tone():
    for name in ("background", "clothes", "skin", "hair", "iris", "lips", "lens"):
        colour = getattr(MANY, name)
        assert colour.shape == (4000, 3)
        assert colour.min() >= 0
        assert colour.max() <= 1
    by_tone = MANY.skin[MANY.skin_tone.argsort()].mean(1).view(10, 400).mean(1)
    assert (by_tone.diff() < -0.02).all()
    assert by_tone[0] > 0.8
    assert by_tone[-1] < 0.3


def test_hues_are_those_of_the_standard_library():
    hue, saturation, value = (uniform(0, torch.arange(100), name) for name in "hsv")
    expected = torch.tensor([colorsys.hsv_to_rgb(*hsv) for hsv in torch.stack([hue, saturation, value], 1).tolist()])
    torch.testing.assert_close(_hsv(hue, saturation, value), expected)


def test_labels_say_hair_and_mouth():
    hair = torch.bucketize(MANY.hair_length, torch.tensor([1 / 3, 2 / 3]))
    mouth = torch.bucketize(MANY.mouth_curve, torch.tensor([-1 / 3, 1 / 3]))
    labels = face_labels(MANY)
    assert labels.dtype == torch.int64
    assert torch.equal(labels, hair * len(MOUTHS) + mouth)
    shares = labels.bincount(minlength=NUM_LABELS) / len(labels)
    assert len(shares) == len(HAIR_LENGTHS) * len(MOUTHS) == 9
    assert (shares - 1 / 9).abs().max() < 0.02


def test_no_label_is_a_close_call():
    for value, borders in ((MANY.hair_length, [1 / 3, 2 / 3]), (MANY.mouth_curve, [-1 / 3, 1 / 3])):
        assert (value[:, None] - torch.tensor(borders)).abs().min() > 0.04
