"""Masks with blended edges get the class on one side of each edge, never that of a colour in between."""

import numpy as np
import tiny
from PIL import Image, ImageDraw

from tenshot.datamodules.pairs import class_colours, snapped

COLOURS = class_colours()[1:10].numpy()
"""Ids 1 … 9; half way between (128, 0, 0) and black is (64, 0, 0), of id 8."""
SIDE, FINER = 48, 8


def drawing(finer: int) -> Image.Image:
    """Areas of classes 0, 3, 5, 4 with round and slanted borders, as numbers, so many times as fine."""
    image = Image.new("L", (SIDE * finer, SIDE * finer), 0)
    draw = ImageDraw.Draw(image)
    at = [(np.array(box) * finer).tolist() for box in ((4, 6, 40, 44), (12, 12, 30, 26))]
    draw.ellipse(at[0], fill=3)
    draw.ellipse(at[1], fill=5)
    draw.polygon([(finer * x, finer * y) for x, y in ((0, 47), (60, 20), (60, 60), (0, 60))], fill=4)
    return image


def blended(finer: int) -> np.ndarray:
    """The same with the edges that a drawing program makes: each pixel the mean of the colours in it."""
    fine = COLOURS[np.asarray(drawing(finer))].astype(float)
    return fine.reshape(SIDE, finer, SIDE, finer, 3).mean((1, 3)).round().astype(np.uint8)


def test_each_pixel_gets_a_class_that_it_shows():
    pixels = blended(FINER)
    classes, strange = snapped(pixels, COLOURS, "a mask")
    shown = np.asarray(drawing(FINER)).reshape(SIDE, FINER, SIDE, FINER).transpose(0, 2, 1, 3).reshape(SIDE, SIDE, -1)
    mixed = (shown != shown[..., :1]).any(-1)
    assert strange == mixed.sum() > 100
    assert (classes[~mixed] == shown[..., 0][~mixed]).all()
    share = (shown == classes[..., None]).mean(-1)  # of a pixel's area that is of its class
    assert (share[mixed] > 0).mean() > 0.99  # where three meet, not always
    assert set(np.unique(classes)) == {0, 3, 4, 5}
    two = np.array([len(set(row)) == 2 for row in shown.reshape(SIDE * SIDE, -1)]).reshape(SIDE, SIDE)
    assert (share[two] >= 0.4).mean() > 0.95

    # the nearest colour alone finds classes that are nowhere in the drawing
    away = ((pixels[:, :, None].astype(int) - COLOURS.astype(int)) ** 2).sum(-1)
    assert set(np.unique(away.argmin(-1))) > {0, 3, 4, 5}


def test_a_mask_without_blended_edges_stays_as_it_is():
    classes = np.random.default_rng(0).integers(9, size=(20, 30))
    found, strange = snapped(COLOURS[classes], COLOURS, "a mask")
    assert strange == 0
    assert (found == classes).all()


def test_wide_seams_are_closed_from_both_sides():
    pixels = np.zeros((1, 10, 3), dtype=np.uint8)
    pixels[:, :3], pixels[:, 7:] = COLOURS[0], COLOURS[2]
    pixels[:, 3:7] = (7, 7, 7)
    assert snapped(pixels, COLOURS, "a mask")[0].tolist() == [[0, 0, 0, 0, 0, 2, 2, 2, 2, 2]]


def test_a_photograph_is_no_mask():
    photo = np.random.default_rng(0).integers(256, size=(16, 16, 3)).astype(np.uint8)
    tiny.refusal(lambda: snapped(photo, COLOURS, "a.png"), "a.png is no mask in the colours", "0% of its pixels")
