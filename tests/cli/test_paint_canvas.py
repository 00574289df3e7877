"""What is drawn and opened on the page of ``tenshot paint`` as conditions, and what cannot be."""

import base64
import io
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from PIL import Image
from tiny_piti import CONFIG, masks

from tenshot.cli.paint.canvas import Canvas, canvas_for, read_names
from tenshot.datamodules import FewShot, Paired
from tenshot.datamodules.faces import REGIONS
from tenshot.datamodules.pairs import ConditionReader, Masks, class_colours, colours_of, distance_map

SIDE = CONFIG.condition_size


def method(channels: int = 3, name: str | None = "condition_image") -> Any:
    """What of a method counts."""
    config = SimpleNamespace(condition_channels=channels, condition_size=SIDE)
    return SimpleNamespace(condition_name=name, unet=SimpleNamespace(config=config))


def faces(**options: Any) -> Any:
    return tiny.faces(**({"num_val": 3, "pairs": "mask", "condition_size": SIDE} | options))


def grid(told: dict[str, Any]) -> np.ndarray:
    return np.frombuffer(base64.b64decode(told["cells"]), dtype=np.uint8).reshape(SIDE, SIDE)


def file(pixels: np.ndarray, kind: str = "PNG") -> bytes:
    written = io.BytesIO()
    Image.fromarray(pixels).save(written, kind)
    return written.getvalue()


@pytest.fixture
def of_faces() -> Canvas:
    return canvas_for(method(), faces(), None, {})


@pytest.fixture
def sketches() -> Canvas:
    return canvas_for(method(1), faces(pairs="sketch"), None, {})


def test_the_palette_is_what_the_data_call_their_classes(of_faces: Canvas):
    about = of_faces.about()
    assert [one["name"] for one in about["classes"]] == list(REGIONS)
    assert [one["colour"] for one in about["classes"]] == class_colours()[1:10].tolist()
    assert (about["size"], about["examples"], about["ground"]) == (SIDE, 3, 1)


@pytest.mark.parametrize("kind", ["mask", "sketch"])
def test_the_cells_of_an_example_are_its_condition_again(kind: str):
    canvas = canvas_for(method({"mask": 3, "sketch": 1}[kind]), faces(pairs=kind), None, {})
    given = faces(pairs=kind).val_source.read([2])
    told = canvas.example(2)
    assert (canvas.condition(grid(told).tobytes()) == given["condition_image"][0]).all()
    image = Image.open(io.BytesIO(base64.b64decode(told["image"])))
    assert (np.asarray(image) == given["image"][0].permute(1, 2, 0).numpy()).all()
    for number in (-1, 3):
        tiny.refusal(lambda number=number: canvas.example(number), f"no example {number}", "0 … 2")  # type: ignore[misc]


def test_examples_load_in_a_thread_of_the_server():
    """The trainer's predicts in inference mode, and what the data keep from there cannot be changed outside of it."""
    with torch.inference_mode():
        canvas = canvas_for(method(), faces(num_val=100), None, {})
    with ThreadPoolExecutor(1) as server:
        assert server.submit(canvas.example, 99).result()["cells"]


def test_what_is_saved_opens_as_what_it_was(of_faces: Canvas, sketches: Canvas):
    for canvas in (of_faces, sketches):
        cells = grid(canvas.example(1))
        saved = base64.b64decode(canvas.png(cells.tobytes()))
        told = canvas.opened(saved, "saved.png", photo=False)
        assert (grid(told) == cells).all()
        assert told["note"] == ""


def test_blended_edges_of_a_mask_are_told(of_faces: Canvas):
    cells = grid(of_faces.example(0))
    large = np.asarray(Image.fromarray(class_colours().numpy()[cells]).resize((256, 256), Image.Resampling.NEAREST))
    soft = large.astype(float)
    soft[:, 1:] = (soft[:, 1:] + soft[:, :-1]) / 2  # half a pixel to the right
    told = of_faces.opened(file(soft.astype(np.uint8)), "soft.png", photo=False)
    assert (grid(told) == cells).mean() > 0.99
    assert set(np.unique(grid(told))) <= set(np.unique(cells))
    strange = (soft.astype(np.uint8) != large).any(-1).sum()
    assert 0 < int(told["note"].split()[0]) <= strange


def test_masks_are_read_as_those_of_the_data(tmp_path: Path):
    """Numbers of classes, where those are what the files of training hold."""
    values = np.random.default_rng(0).choice([0, 4, 7, 255], size=(4, SIDE, SIDE)).astype(np.uint8)
    for number, mask in enumerate(values):
        for folder, pixels in (("masks", mask), ("images", np.stack([mask] * 3, -1))):
            (tmp_path / folder).mkdir(exist_ok=True)
            Image.fromarray(pixels).save(tmp_path / folder / f"{number}.png")
    sizes = {"image_size": 16, "condition_size": SIDE}
    data = Paired(str(tmp_path / "images"), conditions=str(tmp_path / "masks"), unlabelled=0, **sizes)
    canvas = canvas_for(method(), data, None, {5: "sky"})
    assert canvas.classes == {0: "no class", 1: "class 0", 5: "sky", 8: "class 7"}
    told = canvas.opened(file(values[0]), "a.png", photo=False)
    given = ConditionReader("mask", SIDE, masks=Masks(unlabelled=0)).decoded([file(values[0])], ["a.png"])[0]
    assert (canvas.condition(grid(told).tobytes()) == given).all()
    coloured = file(colours_of(torch.from_numpy(grid(told).copy())).permute(1, 2, 0).numpy())
    assert (grid(canvas.opened(coloured, "b.png", photo=False)) == grid(told)).all()
    noise = np.random.default_rng(0).integers(256, size=(SIDE, SIDE, 3)).astype(np.uint8)
    tiny.refusal(lambda: canvas.opened(file(noise), "c.png", photo=False), "c.png has colours", "label_map")
    tiny.refusal(lambda: canvas.opened(file(values[0], "JPEG"), "d.jpg", photo=False), "d.jpg is a JPEG")


def test_a_sketch_opens_whichever_way_round_it_is(sketches: Canvas):
    lines = np.zeros((2 * SIDE, 2 * SIDE), dtype=np.uint8)
    lines[20:24] = 255
    for drawn in (lines, 255 - lines):
        told = sketches.opened(file(drawn), "a.png", photo=False)
        assert (grid(told) == (lines[::2, ::2] > 0)).all()
        assert (sketches.condition(grid(told).tobytes()) == distance_map(torch.from_numpy(lines[::2, ::2] > 0))).all()
    tiny.refusal(lambda: sketches.opened(file(lines * 0), "b.png", photo=False), "b.png has no line")
    tiny.refusal(lambda: sketches.opened(b"nothing", "c.png", photo=False), "c.png is not an image")


def test_edges_of_a_photograph_are_a_sketch(sketches: Canvas):
    pytest.importorskip("skimage")
    photo = faces(image_size=64).train_source.read([0])["image"][0].permute(1, 2, 0).numpy()
    edges = grid(sketches.opened(file(photo), "a.png", photo=True))
    assert 0.01 < edges.mean() < 0.4
    tiny.refusal(lambda: sketches.opened(file(photo * 0), "b.png", photo=True), "b.png has no edges")


def test_what_is_no_condition_is_refused(of_faces: Canvas, sketches: Canvas):
    tiny.refusal(lambda: sketches.condition(bytes(SIDE**2)), "the sketch has no line")
    for canvas in (of_faces, sketches):
        tiny.refusal(lambda canvas=canvas: canvas.condition(bytes(5)), "has 5 cells", "reload")  # type: ignore[misc]


@pytest.mark.parametrize(
    ("of", "data", "kind", "told"),
    [
        (method(name=None), faces(), None, "this SimpleNamespace does not"),
        (SimpleNamespace(**vars(method()), low_res_size=8), faces(), None, "draws from a small image besides"),
        (method(), faces(pairs=None), None, "nothing tells what the conditions are"),
        (method(), FewShot(".", image_size=16), None, "nothing tells what the conditions are"),
        (method(), faces(pairs="depth"), None, "depth cannot be drawn by hand"),
        (method(), faces(pairs="sketch"), None, "takes conditions of 3 channels, a sketch has 1"),
        (method(), faces(), "sketch", "leave out --kind"),
        (method(), None, "mask", "nothing tells the classes: give --names FILE"),
    ],
)
def test_what_cannot_be_drawn_for_is_one_line(of: Any, data: Any, kind: Any, told: str):
    tiny.refusal(lambda: canvas_for(of, data, kind, {}), told)


def test_names_are_enough_where_there_are_no_data():
    canvas = canvas_for(method(), None, "mask", {1: "road", 3: "sky"})
    assert canvas.classes == {1: "road", 3: "sky"}
    ids = torch.from_numpy(np.random.default_rng(0).choice([1, 3], size=(SIDE, SIDE)).astype(np.uint8))
    assert (canvas.condition(ids.numpy().tobytes()) == colours_of(ids)).all()
    tiny.refusal(lambda: canvas.cells(masks(1)[0]), "colours that are not the palette's")


def test_names_stand_alone_or_after_colours(tmp_path: Path):
    path = tmp_path / "names.txt"
    path.write_text("# streets\nroad\n\n12 bad street\n")
    assert read_names(str(path)) == {1: "road", 2: "12 bad street"}
    path.write_text("128 64 128 road\n0, 0, 0\n70,70,70, tall building\n")
    assert read_names(str(path)) == {1: "road", 3: "tall building"}
    path.write_text("\n")
    tiny.refusal(lambda: read_names(str(path)), "has 0 names")
    tiny.refusal(lambda: read_names(str(tmp_path / "none")), "cannot be read", "--names")
