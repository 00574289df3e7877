"""The colours that stand for classes in a mask: PITI's, which are those of PASCAL VOC."""

import torch
from torch import Tensor

__all__ = ["MOST_CLASSES", "class_colours", "classes_of", "colours_of", "ids_of"]

MOST_CLASSES = 255
"""Class k has id k + 1; id 0 is black."""


def class_colours() -> Tensor:
    """The colour of every id: uint8 (256, 3).

    Bits 0, 3, 6 of an id are bits 7, 6, 5 of red; 1, 4, 7 those of green; 2 and 5 are bits 7 and 6 of blue.
    """
    ids = torch.arange(MOST_CLASSES + 1)
    places = torch.arange(3)  # (3,)
    bits = (ids[:, None, None] >> (3 * places[:, None] + torch.arange(3))) & 1  # (256, place, channel)
    return (bits << (7 - places)[:, None]).sum(1).to(torch.uint8)


def colours_of(ids: Tensor) -> Tensor:
    """Ids 0 … 255 in their colours: uint8 (…, H, W)  ->  uint8 (…, 3, H, W)."""
    return class_colours()[ids.long()].movedim(-1, -3)


def ids_of(colours: Tensor) -> Tensor:
    """The inverse of ``colours_of``: uint8 (…, 3, H, W)  ->  int64 (…, H, W), -1 where no id has the colour."""
    channels = colours.unbind(-3)
    ids = torch.zeros_like(channels[0])  # uint8 holds all 8 bits
    for place in range(3):
        for channel, values in enumerate(channels):
            if 3 * place + channel < 8:
                ids |= ((values >> (7 - place)) & 1) << (3 * place + channel)
    red, green, blue = channels
    known = ((red | green) & 0b00011111 | blue & 0b00111111) == 0  # bits that no id has
    return torch.where(known, ids.long(), -1)


def classes_of(colours: Tensor) -> Tensor:
    """The classes in masks as networks take them: uint8 (…, 3, H, W)  ->  int64 (…, H, W), -1 for black and for none.

    Unlabelled pixels that were given a colour of their own, that of id 183, are of class 182.
    """
    ids = ids_of(colours)
    return torch.where(ids > 0, ids - 1, -1)
