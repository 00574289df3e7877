import torch
import torch.nn.functional as F

from tenshot.datamodules.faces import CONDITIONS, REGIONS, FacesSource, face_attributes, render_condition
from tenshot.datamodules.faces.domains import parts
from tenshot.datamodules.faces.parts import Solid
from tenshot.datamodules.faces.shapes import Canvas, pixel_grid

HEADS = face_attributes(0, torch.arange(16))


def test_contours_are_all_or_nothing_and_run_where_parts_meet():
    for size in (32, 128):
        sketch = render_condition("sketch", "faces", HEADS, size)
        assert sketch.shape == (16, 1, size, size)
        assert sketch.unique().tolist() == [0, 255]
        mask = render_condition("mask", "faces", HEADS, size)
        near_line = F.max_pool2d(sketch.float(), 3, stride=1, padding=1)[:, 0] == 255
        wall = mask == REGIONS.index("background")
        border = wall[..., 1:] != wall[..., :-1]
        assert near_line[..., 1:][border].float().mean() > 0.99
        assert sketch.float().mean() < 255 * (0.35 if size == 32 else 0.2)


def test_depth_stands_out_from_the_wall_and_nearest_in_the_middle():
    depth = render_condition("depth", "faces", HEADS, 64)[:, 0].float()
    mask = render_condition("mask", "faces", HEADS, 64)
    assert depth[mask == REGIONS.index("background")].max() == 0
    assert depth[mask == REGIONS.index("nose")].min() > 150
    assert depth[mask == REGIONS.index("skin")].min() > 0
    assert depth.max() < 255  # nothing is cut off
    clothes, nose = (depth[mask == REGIONS.index(name)].mean() for name in ("clothes", "nose"))
    assert clothes < 0.5 * nose


def test_normals_have_unit_length_and_look_away_from_the_middle_of_the_head():
    coded = render_condition("normal", "babies", HEADS, 64)
    normal = coded.float() / 127.5 - 1
    torch.testing.assert_close(normal.norm(dim=1), torch.ones(16, 64, 64), rtol=0, atol=0.02)
    assert normal[:, 2].min() > 0  # towards the viewer
    wall = render_condition("mask", "babies", HEADS, 64) == REGIONS.index("background")
    assert (normal[:, 2][wall] > 0.98).all()
    for row in range(16):
        x = int((HEADS.head_x[row] + 1) * 32)
        y = int((HEADS.head_y[row] + 1.08) * 32)
        reach = 12
        assert normal[row, 0, y, x + reach] > 0.2 > -0.2 > normal[row, 0, y, x - reach]  # right
        assert normal[row, 1, y - reach, x] > 0.2 > -0.2 > normal[row, 1, y + reach, x]  # up


def test_a_solid_s_normal_is_the_slope_of_its_height():
    one = torch.ones(1, 1, 1, dtype=torch.float64)
    for hanging in (False, True):
        solid = Solid(0.1 * one, -0.2 * one, 0.7 * one, 0.5 * one, 0.3 * one, 0.4 * one, hanging)
        generator = torch.Generator().manual_seed(0)
        x, y = torch.rand(2, 1, 1, 500, generator=generator, dtype=torch.float64) * 0.6 - 0.3
        x, y = x + 0.1, y - 0.2
        h = 1e-5
        right, left, down, up = (
            solid.height(Canvas(x + dx, y + dy, 1.0)) for dx, dy in ((h, 0), (-h, 0), (0, h), (0, -h))
        )
        expected = torch.stack([(left - right) / (2 * h), (up - down) / (2 * h), torch.ones_like(x)])
        expected = expected / expected.norm(dim=0)
        torch.testing.assert_close(torch.stack(torch.broadcast_tensors(*solid.normal(Canvas(x, y, 1.0)))), expected)


def test_every_region_that_can_be_seen_has_a_name():
    named = {part.region for part in parts("sunglasses", HEADS, pixel_grid(16))}
    assert named - {None} == set(REGIONS) - {"background"}


def test_a_source_gives_each_condition_with_its_image():
    shapes = {"mask": (3, 16, 16), "sketch": (3, 1, 16, 16), "depth": (3, 1, 16, 16), "normal": (3, 3, 16, 16)}
    assert set(shapes) == set(CONDITIONS)
    for condition, shape in shapes.items():
        batch = FacesSource("sunglasses", 4, range(100, 110), 16, condition=condition).read([2, 0, 2])
        heads = face_attributes(4, torch.tensor([102, 100, 102]))
        assert batch[condition].shape == shape
        assert torch.equal(batch[condition], render_condition(condition, "sunglasses", heads, 16))
