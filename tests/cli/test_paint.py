"""``tenshot paint`` in a browser: what is drawn is what the network is told, and samples are those of ``predict``."""

import hashlib
import io
import itertools
import json
import re
import shutil
import signal
import socket
import threading
import urllib.request
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from paint_browser import Browser
from PIL import Image
from tiny_piti import TINY, config, piti
from tiny_stages import saved

from tenshot.callbacks.image_writer import to_uint8
from tenshot.cli import main
from tenshot.datamodules.faces import REGIONS
from tenshot.datamodules.pairs import colours_of, distance_map
from tenshot.lightning_modules import PITI
from tenshot.lightning_modules.guidance import ClassifierFreeGuidance

pytest.importorskip("starlette", reason="pip install 'tenshot[paint]'")
pytest.importorskip("uvicorn", reason="pip install 'tenshot[paint]'")

SIDE = 32


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("paint")
    words = ["--trainer.default_root_dir", str(folder / "run"), "--trainer.max_steps", "1", "--grid.every_n_steps", "0"]
    start = saved(folder, tiny.randomised(piti(piti=TINY)))  # a fresh network sees no condition
    main(["fit", "--config", config(folder, init_from=start, stage=2, condition_drop=0.2), *words])
    return folder / "run"


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Python's handler, as where tests are not started by nohup."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


def visited(tenshot: tiny.Run, visit: Callable[[str], None], end: int, *words: str | Path) -> tiny.Outcome:
    """What the command did that served a page until its visitor left and this signal ended it."""
    port, ended, errors = free_port(), threading.Event(), list[BaseException]()

    def visitor() -> None:
        try:
            wait_for(port, ended)
            visit(f"http://127.0.0.1:{port}/")
        except BaseException as error:
            errors.append(error)
        finally:
            if not ended.is_set():
                signal.pthread_kill(threading.main_thread().ident or 0, end)

    thread = threading.Thread(target=visitor)
    thread.start()
    try:
        outcome = tenshot("paint", *words, "--port", str(port))
    finally:
        ended.set()
        thread.join()
    for error in errors:
        raise AssertionError(outcome.err) from error
    return outcome


def wait_for(port: int, ended: threading.Event) -> None:
    while True:
        assert not ended.wait(0.05), "the command ended at once"
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/about").close()
        except OSError:
            continue
        return


def drawn(run: Path, condition: torch.Tensor, numbers: list[int], seed: int, **options: Any) -> np.ndarray:
    """What the run's averaged weights make of a condition."""
    module = PITI(init_from=str(run), sampler=tiny.QUICK, **options)
    module.configure_model()
    rows = condition.expand(len(numbers), *condition.shape)
    return to_uint8(module.sample((seed << 32) + torch.tensor(numbers), {"condition_image": rows})).numpy()


def near(ends: list[tuple[int, int]], size: float) -> np.ndarray:
    """The cells within size / 2 of a line through cells (x, y): bool (SIDE, SIDE), found by many points on it."""
    y, x = np.mgrid[:SIDE, :SIDE]
    found = np.zeros((SIDE, SIDE), dtype=bool)
    for (x0, y0), (x1, y1) in itertools.pairwise(ends):
        for part in np.linspace(0, 1, 2001):
            found |= np.hypot(x - x0 - part * (x1 - x0), y - y0 - part * (y1 - y0)) <= size / 2 + 1e-4
    return found


@pytest.fixture
def browse(tenshot: tiny.Run, ctrl_c: None) -> Callable[..., tiny.Outcome]:
    """Serve a page, and do something with it in a browser."""
    program = shutil.which("chromium")
    playwright = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
    if program is None:
        pytest.skip("there is no chromium on the PATH: apt-get install chromium")

    def served(do: Callable[[Browser], None], *words: str | Path, end: int = signal.SIGINT) -> tiny.Outcome:
        def visit(url: str) -> None:
            with playwright.sync_playwright() as started:
                chromium = started.chromium.launch(executable_path=program, args=["--no-sandbox"])
                browser = Browser(chromium.new_page(viewport={"width": 1200, "height": 1000}), SIDE)
                browser.page.set_default_timeout(60_000)
                browser.open(url)
                do(browser)
                assert {asked.split(":")[0] for asked in browser.asked} <= {"http", "data"}
                assert all(asked.startswith((url, "data:")) for asked in browser.asked), browser.asked
                assert browser.faults == []
                chromium.close()

        return visited(tenshot, visit, end, *words)

    return served


def read(images: list[bytes]) -> np.ndarray:
    return np.stack([np.asarray(Image.open(io.BytesIO(image))) for image in images])


def record(image: bytes) -> dict[str, Any]:
    return json.loads(Image.open(io.BytesIO(image)).text["drawn_by"])  # type: ignore[attr-defined]


def test_a_mask_is_drawn_and_samples_arrive(browse: Callable[..., tiny.Outcome], run: Path, tmp_path: Path):
    ids = torch.full((SIDE, SIDE), 1)  # the background is most of a face's image
    seen: dict[str, Any] = {}

    def do(browser: Browser) -> None:
        page = browser.page
        assert page.locator("#palette .swatch").all_inner_texts() == list(REGIONS)
        page.click("#clear")
        page.click("#palette >> text=hair")
        page.fill("#size", "5")
        ends = [(4, 20), (25, 6), (28, 28)]
        browser.stroke(*ends)
        border = [(10, 0), (14, 15), (3, 31)]
        ids[torch.from_numpy(near(ends, 5) | near(border, 1))] = 1 + REGIONS.index("hair")
        page.fill("#size", "1")
        browser.stroke(*border)
        page.check("input[value=fill]")
        page.click("#palette >> text=skin")
        browser.stroke((1, 16))  # all that is left of the border, and nothing at the other edge
        for name in ("undo", "redo"):
            page.click(f"#{name}")
        seen["shown"] = page.locator("#canvas").screenshot()
        browser.set("seed", 3)
        seen["plain"] = browser.draw(5)
        browser.set("scale", 2.5)
        browser.set("first", 7)
        seen["guided"] = browser.draw(1)
        with page.expect_download() as download:
            page.click("figure a")
        download.value.save_as(tmp_path / download.value.suggested_filename)
        browser.set("example", 2)
        page.click("#load")
        page.wait_for_selector("#truth:not([hidden])")
        browser.set("scale", 1)
        browser.set("seed", 0)
        browser.set("first", 2)
        seen["example"] = browser.draw(1)
        with page.expect_download() as saved:
            page.click("#keep")
        browser.page.click("#clear")
        page.set_input_files("#file", saved.value.path())
        page.wait_for_selector("#truth", state="hidden")
        seen["opened"] = browser.draw(1)
        browser.set("steps", "2000")
        page.click("#draw")
        page.wait_for_selector("#said.error")
        seen["error"] = page.inner_text("#said")

    outcome = browse(do, run)
    assert outcome.status == 130
    assert "the page is no longer served" in outcome.err

    below, waiting = ids.clone(), deque([(16, 1)])  # an independent fill: rows and columns
    while waiting:
        row, column = waiting.popleft()
        if 0 <= row < SIDE and 0 <= column < SIDE and below[row, column] == 1:
            below[row, column] = 1 + REGIONS.index("skin")
            waiting += [(row + 1, column), (row - 1, column), (row, column + 1), (row, column - 1)]
    condition = colours_of(below)
    shown = np.asarray(Image.open(io.BytesIO(seen["shown"])).convert("RGB"))
    assert {tuple(colour) for colour in shown[2:-2, 2:-2].reshape(-1, 3)} == {
        tuple(colour) for colour in condition.permute(1, 2, 0).reshape(-1, 3).tolist()
    }
    assert record(seen["plain"][0])["depends_on"]["condition_image_sha256"] == (
        hashlib.sha256(condition.numpy().tobytes()).hexdigest()
    )
    assert (read(seen["plain"]) == drawn(run, condition, [0, 1, 2, 3, 4], 3)).all()
    assert len(np.unique(read(seen["plain"]).reshape(5, -1), axis=0)) == 5

    guided = drawn(run, condition, [7], 3, classifier_free=ClassifierFreeGuidance(2.5))
    assert (read(seen["guided"]) == guided).all()
    [file] = tmp_path.glob("*.png")
    assert file.name == "seed3-000007.png"
    assert file.read_bytes() == seen["guided"][0]
    told = record(file.read_bytes())
    assert (told["number"], told["weights"], told["step"]) == (7, "ema", 1)
    assert told["depends_on"]["classifier_free"]["scale"] == 2.5
    assert told["depends_on"]["seed"] == 3

    assert seen["opened"] == seen["example"]
    images = tmp_path / "images"
    main(["predict", "--ckpt_path", str(run), "--images.dir", str(images), "--images.count", "3"])
    assert (read(seen["example"])[0] == np.asarray(Image.open(images / "000002.png"))).all()
    same = json.loads((images / "drawn_by.json").read_text())["depends_on"]
    ours = record(seen["example"][0])["depends_on"]
    assert {name for name in same.keys() | ours.keys() if same.get(name) != ours.get(name)} == {
        "condition_image_of", "condition_image_sha256",
    }  # fmt: skip
    assert "steps" in seen["error"]
    assert "2000" in seen["error"]


def test_a_sketch_is_drawn(browse: Callable[..., tiny.Outcome], tmp_path: Path):
    """Of weights alone, without data: what is drawn is told by --kind."""
    start = saved(tmp_path, tiny.randomised(piti(piti=replace(TINY, condition_channels=1))))
    words = [start, "--kind", "sketch", "--trainer.accelerator", "cpu"]
    quick = ["--model.sampler.method", "ddim", "--model.sampler.steps", "ddim2"]
    ends, seen = [(3, 3), (28, 9), (10, 30)], {}

    def do(browser: Browser) -> None:
        assert browser.page.locator("#palette .swatch").all_inner_texts() == ["line", "eraser"]
        assert browser.page.locator("#examples").is_hidden()
        browser.page.click("#draw")
        browser.page.wait_for_selector("#said.error")
        seen["empty"] = browser.page.inner_text("#said")
        browser.set("size", 1)
        browser.stroke(*ends)
        seen["images"] = browser.draw(1)
        browser.page.select_option("#method", "ddpm")
        browser.set("steps", 1000)
        browser.set("count", 64)
        browser.page.click("#draw")
        browser.page.locator("#said", has_text=re.compile(r"step \d+ of 1000")).wait_for()
        browser.page.click("#stop")
        browser.page.locator("#said", has_text="stopped after").wait_for()
        browser.set("steps", 2)
        seen["after"] = browser.draw(1)

    outcome = browse(do, *words, *quick, end=signal.SIGTERM)
    assert outcome.status == 0, outcome.err
    assert read(seen["after"]).shape == (1, 16, 16, 3)
    assert "has no line" in seen["empty"]
    lines = torch.from_numpy(near(ends, 1))
    told = record(seen["images"][0])["depends_on"]["condition_image_sha256"]
    assert told == hashlib.sha256(distance_map(lines)[None].numpy().tobytes()).hexdigest()
