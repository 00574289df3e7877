"""Samples that were drawn from conditions stand between these and the true images."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from run_folders import config, make_run, random_images

from tenshot.callbacks.drawn_by import DrawnBy
from tenshot.callbacks.image_writer import write_png
from tenshot.callbacks.named_folder import mark_of
from tenshot.datamodules import SyntheticFaces
from tenshot.datamodules.condition_files import condition_files
from tenshot.datamodules.conditions import BY_NAME, told_of
from tenshot.reports import grouped, read_run, write_report
from tenshot.reports.conditions import conditions_of, panel
from tenshot.reports.images import ImageRow
from tenshot.reports.shots import NotAvailable

OPTIONS = {"image_size": 16, "num_images": 5, "num_val": 3, "pairs": "mask", "condition_size": 32, "shots": None}
IMAGES = random_images(5, 0)


def settings(**options: Any) -> dict[str, Any]:
    made = config()
    made["data"]["init_args"] |= OPTIONS | options
    return made


def data(**options: Any) -> SyntheticFaces:
    return SyntheticFaces(**settings(**options)["data"]["init_args"])


def run_on(folder: Path, told: str | None = None, **options: Any) -> Path:
    """A run whose images were drawn from the conditions of its data."""
    run = make_run(folder, settings(**options), images=IMAGES)
    module = data(**options)
    assert module.val_source is not None
    depends_on = (
        {"seed": 0} | told_of("condition_image", module.val_source) | ({"condition_image_of": told} if told else {})
    )
    (run / "images/drawn_by.json").write_text(json.dumps({"schema": 1, "depends_on": depends_on}))
    return run


def pixels(rows: list[ImageRow]) -> list[np.ndarray]:
    return [row.images for row in rows]


def test_conditions_and_true_images_are_those_of_the_numbers(tmp_path: Path):
    source = data().val_source
    assert source is not None
    batch = source.read([0, 1, 2, 0, 1])  # the first again after the last
    masks, truths = (batch[name].permute(0, 2, 3, 1).numpy() for name in ("condition_image", "image"))
    runs = [read_run(run_on(tmp_path / name)) for name in ("a", "b")]
    found = panel(grouped(runs))
    assert [row.title for row in (*found.conditions, *found.truths)] == ["conditions", "true images"]  # once for both
    np.testing.assert_array_equal(found.conditions[0].images, masks)
    np.testing.assert_array_equal(found.truths[0].images, truths)

    sketches = read_run(run_on(tmp_path / "c", pairs="sketch"))
    found = panel(grouped([*runs, sketches]))
    assert [row.title for row in found.conditions] == ["conditions of a, b", "conditions of c"]
    assert len(found.truths) == 1
    assert (found.conditions[1].images[..., 0] == found.conditions[1].images[..., 2]).all()  # of one channel


def test_other_conditions_are_not_shown_for_those_that_were_drawn_from(tmp_path: Path):
    run = read_run(run_on(tmp_path / "a", told="3 drawn faces, sha256 0123456789abcdef"))
    found = panel(grouped([run]))
    assert found.conditions == found.truths == []
    [(title, why)] = found.absent
    assert title == "a, seed 1"
    assert "drawn from other conditions" in why
    write_report(grouped([run]), tmp_path / "page")
    assert "The conditions of a, seed 1 are not available: " in (tmp_path / "page/index.html").read_text()


@pytest.fixture
def named(tmp_path: Path) -> Path:
    """A run with two images of each of two masks in a folder."""
    masks = tmp_path / "masks"
    (masks / "x").mkdir(parents=True)
    for number, name in enumerate(("m", "x/a_0")):
        Image.fromarray(np.full((32, 32), number + 1, np.uint8)).save(masks / f"{name}.png")
    run = make_run(tmp_path / "run", settings())
    by = DrawnBy({"seed": 0, "condition_image_of": BY_NAME}, {})
    files = condition_files(data(), str(masks), "")
    told = {"schema": 1, "depends_on": by.depends_on, "conditions": [files.told]}
    (run / "images/drawn_by.json").write_text(json.dumps(told))
    for name, sha256 in zip(files.names, files.sha256(), strict=True):
        for which in range(2):
            mark = mark_of(by.digest, name, which, sha256)
            write_png(data().preview(1)[0].permute(1, 2, 0).byte(), run / f"images/{name}_{which}.png", mark)
    return run


def test_images_that_are_named_after_conditions_stand_below_these(named: Path, tmp_path: Path):
    run = read_run(named)
    assert list(run.images) == ["m_0", "m_1", "x/a_0_0", "x/a_0_1"]
    masks, truths = conditions_of(run, list(run.images))
    assert truths is None
    files = condition_files(data(), str(tmp_path / "masks"), "").read([0, 0, 1, 1])
    np.testing.assert_array_equal(masks, files.permute(0, 2, 3, 1).numpy())
    write_report(grouped([run]), tmp_path / "page")
    page = (tmp_path / "page/index.html").read_text()
    assert page.index(">conditions<") < page.index("samples m_0") < page.index(">training images<")
    assert "<small>m_0</small>" in page
    assert "<small>x/a_0_1</small>" in page

    numbered = read_run(run_on(tmp_path / "numbered"))
    write_report(grouped([run, numbered]), tmp_path / "both")
    assert "no images of one number or condition" in (tmp_path / "both/index.html").read_text()
    assert "no images of one number or condition" not in page

    Image.fromarray(np.full((32, 32), 7, np.uint8)).save(tmp_path / "masks/m.png")
    with pytest.raises(NotAvailable, match=r"the file that m_0\.png was drawn from is gone"):
        conditions_of(run, ["m_0"])
    conditions_of(run, ["x/a_0_0"])
