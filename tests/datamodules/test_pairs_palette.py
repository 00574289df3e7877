"""The colours of classes, against how PASCAL VOC's and PITI's are told."""

import torch

from tenshot.datamodules.pairs import class_colours, classes_of, colours_of, ids_of

VOC = [
    (0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0), (0, 0, 128), (128, 0, 128), (0, 128, 128), (128, 128, 128),
    (64, 0, 0), (192, 0, 0), (64, 128, 0), (192, 128, 0), (64, 0, 128), (192, 0, 128), (64, 128, 128), (192, 128, 128),
    (0, 64, 0), (128, 64, 0), (0, 192, 0), (128, 192, 0), (0, 64, 128),
]  # fmt: skip
"""Background, aeroplane, … television, as the development kit prints them."""


def by_strings(number: int) -> tuple[int, ...]:
    """Bits of a number dealt to red, green and blue in turn, the lowest first, as their next lower bits."""
    bits = f"{number:021b}"[::-1]
    return tuple(int(bits[channel::3].ljust(8, "0"), 2) for channel in range(3))


def test_the_colours_are_those_of_voc():
    colours = [tuple(colour) for colour in class_colours().tolist()]
    assert colours[: len(VOC)] == VOC
    assert colours == [by_strings(number) for number in range(256)]
    assert colours[183] == (128, 224, 192)  # unlabelled pixels of PITI's examples


def test_no_two_classes_of_coco_are_alike():
    colours = class_colours()[1:183].int()
    distance = (colours[:, None] - colours).abs().sum(-1) + 999 * torch.eye(182, dtype=torch.int)
    assert distance.min() == 32


def test_ids_and_classes_are_found_again():
    ids = torch.arange(256).view(2, 8, 16)
    colours = colours_of(ids)
    assert colours.shape == (2, 3, 8, 16)
    assert torch.equal(ids_of(colours), ids)
    assert torch.equal(classes_of(colours), ids - 1)  # black, id 0, is no class


def test_other_colours_have_no_id():
    strange = torch.tensor([[1, 0, 0], [128, 0, 1], [255, 255, 255], [32, 0, 32]], dtype=torch.uint8).T[:, None]
    known = {tuple(colour) for colour in class_colours().tolist()}
    assert all(tuple(colour) not in known for colour in strange[:, 0].T.tolist())
    assert (ids_of(strange) == -1).all()
    assert (classes_of(strange) == -1).all()


def test_every_level_of_a_channel_is_one_of_the_palette_or_has_no_id():
    table = class_colours()
    for channel in range(3):
        colours = torch.zeros(3, 1, 256, dtype=torch.uint8)
        colours[channel, 0] = torch.arange(256, dtype=torch.uint8)
        same = (colours[:, 0].T[:, None] == table).all(-1)  # (256, ids)
        assert torch.equal(ids_of(colours)[0], torch.where(same.any(1), same.int().argmax(1), -1))
