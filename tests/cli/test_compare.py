"""``tenshot compare`` as people use it, and its page in a real browser."""

import csv
import html
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import tiny
from PIL import Image
from run_folders import config, evaluation, make_run, random_images

VOID = {"meta", "img", "br", "wbr", "path", "circle"}


class Page(HTMLParser):
    """Checks that tags are closed in order, and collects what the page refers to and says."""

    def __init__(self, content: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.sources: list[str] = []
        self.tags: set[str] = set()
        self.text = ""
        self.feed(content)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.text += " " * (tag not in ("b", "code", "span", "wbr", "i"))
        named = dict(attrs)
        self.ids += [value for name, value in attrs if name == "id" and value]
        self.links += [str(named["href"])] if "href" in named else []
        self.sources += [str(named[name]) for name in ("src", "srcset", "data", "xlink:href") if name in named]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data

    @property
    def plain(self) -> str:
        return " ".join(self.text.split())


def colours(pixels: np.ndarray) -> int:
    """How many there are in uint8 (H, W, 3)."""
    return len(np.unique(pixels.astype(np.uint32) @ np.array([1, 256, 65536], np.uint32)))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two methods of two seeds, one of them measured on fewer samples; strips; and images of another program."""
    folder = tmp_path_factory.mktemp("runs")
    made = []
    for number, (method, weight, seed) in enumerate([("tuned", 0.1, 1), ("tuned", 0.1, 2), ("<i>paired & co", 0.9, 1)]):
        results = [evaluation(step, 2.0 + seed + step / 1000, 0.1, samples=50) for step in (100, 200)]
        results.append(evaluation(300, 1.0 + seed, 0.5, samples=100 if method != "tuned" else 200))
        same = {"train/mse_q0": 0.5, "speed/peak_memory_gib": 3.25}
        log = [{"step": s, "train/loss": 1 / (s + 1)} | same for s in range(9)]
        settings = config(seed, vlb_weight=weight)
        made.append(make_run(folder / method / f"seed{seed}", settings, results, random_images(12, number), log))
    (made[0] / "strips").mkdir()
    Image.fromarray(np.concatenate(list(random_images(20, 3)), axis=1)).save(made[0] / "strips" / "step=00000300.png")
    made.append(
        make_run(folder / "truth", None, [evaluation(0, None, 0.9) | {"method": "FolderGenerator"}], minutes=None)
    )
    return made


@pytest.fixture(scope="module")
def report(runs: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tenshot.cli import main

    folder = tmp_path_factory.mktemp("report") / "new"
    main(["compare", *map(str, runs), "--output", str(folder)])
    return folder


def test_the_page_is_well_formed_and_loads_nothing(report: Path):
    content = (report / "index.html").read_text()
    page = Page(content)
    assert page.tags.isdisjoint({"script", "link", "iframe", "object", "embed", "base", "form"})
    assert page.sources
    assert all(source.startswith("data:image/png;base64,") for source in page.sources)
    assert all(link.removeprefix("#") in page.ids for link in page.links)
    assert len(page.ids) == len(set(page.ids))
    assert not re.search(r"url\(|@import|https?:", content)
    assert "default-src 'none'" in content
    assert "<i>" not in content  # names are text, never markup
    assert "<i>paired & co" in page.text


def test_the_page_says_the_numbers_and_what_is_missing(report: Path):
    page = Page((report / "index.html").read_text())
    assert "3 methods compared" in page.plain
    assert "2.50 ± 0.71 n = 2" in page.plain  # fid of tuned: 2 and 3
    assert "n_generated 100, not 200" in page.plain
    assert "measured otherwise" in page.plain
    assert "undefined in 1 of 1 runs" in page.plain  # of truth
    assert "No images of truth" in page.plain
    assert "truth: not available, there are no images in images/" in page.plain
    assert "None of <i>paired & co, truth." in page.plain  # strips
    assert "n_generated 50" not in page.plain  # evaluations on the way are in no table
    assert "model.vlb_weight 0.1 0.9" in page.plain
    assert "data.init_args" not in page.plain
    assert "domain" not in page.plain  # which is the same everywhere
    assert "20.0 min" in page.plain
    assert "0.33 CPU-hours 1 process" in page.plain
    assert "3.25 GiB" in page.plain
    assert "not recorded" in page.plain


def test_tables_of_a_row_have_a_label_for_each_cell(report: Path):
    content = (report / "index.html").read_text()
    assert len(re.findall(r"<td\b", content)) == len(re.findall(r'<td data-label="[^"]+"', content)) > 20


def test_the_csv_and_the_image(report: Path):
    lines = list(csv.DictReader((report / "comparison.csv").read_text().splitlines()))
    told = {(line["value"], line["method"]): (line["mean"], line["comparable"]) for line in lines}
    assert told["fid", "tuned"] == ("2.5", "yes")
    assert told["fid", "<i>paired & co"] == ("2.0", "n_generated 100, not 200")
    assert told["fid", "truth"] == ("", "yes")
    with Image.open(report / "comparison.png") as image:
        assert image.format == "PNG"
        assert image.width >= 1100
        assert colours(np.asarray(image.convert("RGB"))) > 1000  # the samples are in it


def test_runs_can_be_named(tenshot: tiny.Run, runs: list[Path], tmp_path: Path):
    words = ["--label", "mine", runs[0], runs[2], "--label", "yours", runs[1], "--output", tmp_path]
    outcome = tenshot("compare", *words)
    assert outcome.status == 0, outcome.err
    assert "mine: seed1, seed1\nyours: seed 2\n" in outcome.out
    page = Page((tmp_path / "index.html").read_text())
    assert "mine: its runs, put together by --label, differ in model.vlb_weight." in page.plain
    assert "mine: seed 1 occurs more than once" in page.plain


def test_a_run_without_anything_is_a_page_that_says_so(tenshot: tiny.Run, tmp_path: Path):
    make_run(tmp_path / "bare", {"model": {"class_path": "DDPM"}}, minutes=None)
    outcome = tenshot("compare", tmp_path / "bare", "--output", tmp_path / "out")
    assert outcome.status == 0, outcome.err
    page = Page((tmp_path / "out" / "index.html").read_text())
    for told in (
        "No run has evaluations",
        "No images of bare",
        "No run has strips",
        "No run has a log",
        "not available",
    ):
        assert told in page.plain
    assert (tmp_path / "out" / "comparison.csv").read_text().count("\n") == 1


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((), "needs runs"),
        (("{empty}",), "not a run, it holds neither config.yaml nor evaluations/"),
        (("{runs}",), "did you mean"),
        (("team/project/abc",), "there is no such folder"),
        (("--label", "a"), "--label a has no runs"),
        (("--outptu", "x", "{run}"), "unrecognized arguments: --outptu"),
        (("{run}", "{run}"), "given twice"),
        (("{run}", "--output", "{run}/config.yaml"), "cannot be written"),
    ],
)
def test_mistakes_are_one_line(tenshot: tiny.Run, runs: list[Path], tmp_path: Path, words: tuple[str, ...], told: str):
    places = {"empty": tmp_path, "run": runs[0], "runs": runs[0].parent}
    assert told in tenshot("compare", *(word.format(**places) for word in words)).complaint


# In a browser. Its windows are at least 500 px wide, so the page stands in frames as wide as a phone and as a desk.

WIDTHS = (390, 1280)
HARNESS = """<!DOCTYPE html><body style="margin:0;display:flex;align-items:flex-start">{frames}<script>
onload = () => {{ document.title = [...document.querySelectorAll("iframe")].map(f => {{
  const page = f.contentDocument, inside = f.contentWindow;
  const wide = [...page.querySelectorAll("body *")].filter(
    e => e.getBoundingClientRect().right > inside.innerWidth + 1 && !e.closest(".scroll, svg, thead"));
  const broken = [...page.images].filter(i => !i.complete || i.naturalWidth === 0);
  return [inside.innerWidth, page.documentElement.scrollWidth, page.documentElement.scrollHeight,
          wide.length, broken.length, page.images.length].join(" ");
}}).join(", ") }}</script>"""
FRAME = '<iframe style="border:0;flex:none;width:{width}px;height:{height}px" srcdoc="{page}"></iframe>'


def chromium(folder: Path, *words: str) -> str:
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("there is no chromium on the PATH: apt-get install chromium")
    always = ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--disable-dev-shm-usage")
    profile = f"--user-data-dir={folder / 'profile'}"
    done = subprocess.run([program, *always, profile, *words], capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_in_a_browser_nothing_overflows(report: Path, tmp_path: Path):
    content = html.escape((report / "index.html").read_text())
    harness, shot = tmp_path / "harness.html", tmp_path / "shot.png"

    def show(heights: tuple[int, ...]) -> str:
        frames = [FRAME.format(width=w, height=h, page=content) for w, h in zip(WIDTHS, heights, strict=True)]
        harness.write_text(HARNESS.format(frames="".join(frames)))
        return f"--window-size={sum(WIDTHS)},{max(heights)}"

    printed = chromium(tmp_path, show((800, 800)), "--dump-dom", harness.as_uri())
    title = re.search(r"<title>([\d ,]+)</title>", printed)
    assert title is not None, printed[:500]
    told = [tuple(map(int, part.split())) for part in title[1].split(",")]
    for width, (inner, scrolled, _, overflowing, broken, images) in zip(WIDTHS, told, strict=True):
        assert inner == width
        assert scrolled <= width
        assert (overflowing, broken) == (0, 0)
        assert images > 5

    heights = tuple(height for _, _, height, *_ in told)
    chromium(tmp_path, show(heights), f"--screenshot={shot}", harness.as_uri())
    with Image.open(shot) as image:
        assert image.size == (sum(WIDTHS), max(heights))
        seen = np.asarray(image.convert("RGB"))
    for left, width, height in zip((0, WIDTHS[0]), WIDTHS, heights, strict=True):
        frame = seen[:height, left : left + width]
        assert colours(frame) > 1000  # images are shown
        for part in np.array_split(frame, 10):
            assert part.std() > 1, "a tenth of the page is empty"
