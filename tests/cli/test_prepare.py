"""``tenshot prepare``: what it writes, what it refuses, and that it goes on where it was killed."""

import io
import json
import multiprocessing
import os
import signal
import tarfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from PIL import Image

from tenshot.cli import prepare as module
from tenshot.datamodules import ImageFolder
from tenshot.datamodules.conventions import CONVENTIONS
from tenshot.datamodules.reading import resized

COUNT = 40

pytestmark = pytest.mark.usefixtures("own_cache")


def example(number: int) -> Image.Image:
    pixels = np.random.default_rng(number).integers(0, 256, (20, 24, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize((48, 40))


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty images in two class folders, two of them beyond use, and two of one name."""
    root = tmp_path_factory.mktemp("source")
    for number in range(COUNT):
        folder = root / ("cat" if number % 2 else "dog")
        folder.mkdir(exist_ok=True)
        example(number).save(folder / f"{number}.png")
    (root / "cat" / "5.png").write_text("not an image")
    example(6).resize((9, 9)).save(root / "dog" / "6.png")
    example(7).save(root / "cat" / "7.bmp")
    return root


def contents(root: Path) -> dict[str, bytes]:
    """All files but the report, by name."""
    files = (path for path in root.rglob("*") if path.is_file() and "prepare_report" not in path.name)
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in files}


def pixels(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        assert image.format == "PNG"
        return np.asarray(image)


@pytest.mark.parametrize("convention", ["adm", "cdc", "piti", "piti_condition"])
def test_every_image_by_its_convention(tenshot: tiny.Run, source: Path, tmp_path: Path, convention: str):
    outcome = tenshot("prepare", source, tmp_path / "out", "--image_size", "24", "--convention", convention)
    assert outcome.status == 0, outcome.err
    assert f"39 of {COUNT + 1} images, 24 px, {convention}" in outcome.out
    written = contents(tmp_path / "out")
    usable = [number for number in range(COUNT) if number not in (5, 6)]
    expected = {f"{'cat' if number % 2 else 'dog'}/{number}.png": example(number) for number in usable}
    expected["cat/7-2.png"] = example(7)  # of 7.bmp and 7.png, the later in order
    assert written.keys() == expected.keys()
    for name, image in expected.items():
        assert np.array_equal(pixels(written[name]), np.asarray(CONVENTIONS[convention](image, 24))), name


def test_the_report_says_what_was_refused_and_why(tenshot: tiny.Run, source: Path, tmp_path: Path):
    outcome = tenshot("prepare", source, tmp_path / "out", "--image_size", "24", "--workers", "2")
    assert "refused 2 (1 small, 1 unreadable)" in outcome.out
    report = json.loads((tmp_path / "out" / "prepare_report.json").read_text())
    assert (report["finished"], report["pictures"], report["written"]) == (True, COUNT + 1, COUNT - 1)
    assert report["refused_by_kind"] == {"small": 1, "unreadable": 1}
    refused = {one["file"]: one for one in report["refused"]}
    assert refused.keys() == {str(source / "cat" / "5.png"), str(source / "dog" / "6.png")}
    assert refused[str(source / "cat" / "5.png")]["kind"] == "unreadable"
    assert (
        "9 x 9 pixels: for 24 x 24 give an image of at least 16 x 16, or lower --image_size"
        in (refused[str(source / "dog" / "6.png")]["reason"])
    )


@pytest.mark.parametrize("ending", ["zip", "tar"])
@pytest.mark.parametrize("shard_size", [100, 16])
def test_archives_hold_what_the_folder_holds(
    tenshot: tiny.Run, source: Path, tmp_path: Path, ending: str, shard_size: int
):
    tenshot("prepare", source, tmp_path / "folder", "--image_size", "24")
    words = ["--image_size", "24", "--shard_size", str(shard_size)]
    assert tenshot("prepare", source, tmp_path / f"set.{ending}", *words).status == 0
    archives = sorted(tmp_path.glob(f"set*.{ending}"))
    assert [path.stem for path in archives] == (["set"] if shard_size == 100 else [f"set-0000{n}" for n in range(3)])
    found: dict[str, bytes] = {}
    for path in archives:
        if ending == "zip":
            with zipfile.ZipFile(path) as zipped:
                assert zipped.testzip() is None
                found |= {name: zipped.read(name) for name in zipped.namelist()}
        else:
            with tarfile.open(path) as tarred:
                found |= {info.name: tarred.extractfile(info).read() for info in tarred}  # type: ignore[union-attr]
    assert found == contents(tmp_path / "folder")

    root = str(archives[0] if shard_size == 100 else tmp_path / f"set-*.{ending}")
    ours, folder = (ImageFolder(where, 24, labels=True, num_workers=0) for where in (root, str(tmp_path / "folder")))
    one, other = next(iter(ours.train_dataloader())), next(iter(folder.train_dataloader()))
    assert all(torch.equal(one[key], other[key]) for key in other)


def test_plain_keeps_the_size_and_turns_upright(tenshot: tiny.Run, tmp_path: Path):
    exif = Image.Exif()
    exif[274] = 6
    (tmp_path / "in").mkdir()
    example(0).save(tmp_path / "in" / "a.png", exif=exif)
    assert tenshot("prepare", tmp_path / "in", tmp_path / "out", "--convention", "plain").status == 0
    ours = contents(tmp_path / "out")["a.png"]
    assert np.array_equal(pixels(ours), np.rot90(np.asarray(example(0)), -1))
    with Image.open(io.BytesIO(ours)) as image:
        assert not image.getexif()


@pytest.mark.parametrize("output", ["out", "out.tar", "out.zip"])
def test_a_killed_run_goes_on_to_the_same_files(
    tenshot: tiny.Run, source: Path, tmp_path: Path, output: str, monkeypatch: pytest.MonkeyPatch
):
    words = ["--image_size", "24", "--shard_size", "10", "--workers", "2"]
    (tmp_path / "whole").mkdir()
    (tmp_path / "killed").mkdir()
    assert tenshot("prepare", source, tmp_path / "whole" / output, *words).status == 0
    whole = contents(tmp_path / "whole")

    real = module._png
    with monkeypatch.context() as slow:
        slow.setattr(module, "AT_A_TIME", 4)
        slow.setattr(module, "_png", lambda image: time.sleep(0.03) or real(image))
        arguments = (str(source), str(tmp_path / "killed" / output), 24, "adm", 2, 10)
        child = multiprocessing.get_context("fork").Process(target=module.prepare_images, args=arguments)
        child.start()
        end = time.monotonic() + 60
        while len(finished(tmp_path / "killed")) < 2 and time.monotonic() < end:
            time.sleep(0.005)
        os.kill(child.pid or 0, signal.SIGKILL)
        child.join()
    before = finished(tmp_path / "killed")
    assert 2 <= len(before) < len(whole)
    assert all(whole[name] == content for name, content in before.items())  # none is torn

    outcome = tenshot("prepare", source, tmp_path / "killed" / output, *words)
    assert outcome.status == 0, outcome.err
    assert f"39 of {COUNT + 1} images" in outcome.out
    assert contents(tmp_path / "killed") == whole
    reports = [next((tmp_path / kind).rglob("*prepare_report.json")).read_text() for kind in ("whole", "killed")]
    assert reports[0] == reports[1]
    assert not list(tmp_path.rglob(".*"))


def finished(root: Path) -> dict[str, bytes]:
    """The files that show themselves."""
    return {name: content for name, content in contents(root).items() if not Path(name).name.startswith(".")}


def test_what_is_there_is_not_made_again(tenshot: tiny.Run, source: Path, tmp_path: Path):
    words = ["prepare", source, tmp_path / "out", "--image_size", "24"]
    tenshot(*words)
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*/*.png")}
    (tmp_path / "out" / "cat" / "9.png").unlink()
    assert tenshot(*words).status == 0
    again = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*/*.png")}
    assert {path for path in times if times[path] != again[path]} == {tmp_path / "out" / "cat" / "9.png"}


def test_an_image_mended_since_is_no_longer_refused(tenshot: tiny.Run, tmp_path: Path):
    (tmp_path / "in").mkdir()
    example(0).save(tmp_path / "in" / "a.png")
    (tmp_path / "in" / "b.png").write_text("not yet")
    words = ["prepare", tmp_path / "in", tmp_path / "out", "--image_size", "24"]
    assert "refused 1" in tenshot(*words).out
    example(1).save(tmp_path / "in" / "b.png")
    outcome = tenshot(*words)
    assert "2 of 2 images" in outcome.out
    assert "refused" not in outcome.out
    assert json.loads((tmp_path / "out" / "prepare_report.json").read_text())["refused"] == []


def test_two_runs_do_not_write_to_one_place(tenshot: tiny.Run, source: Path, tmp_path: Path, monkeypatch):
    from tenshot.cli import prepare_output

    monkeypatch.setattr(prepare_output, "PATIENCE", 0.2)
    target = prepare_output.output_at(str(tmp_path / "out"), ["a.png"], 1)
    with prepare_output.only_writer(target):
        complaint = tenshot("prepare", source, tmp_path / "out", "--image_size", "24").complaint
    assert complaint == f"{tmp_path}/out is being written by another tenshot prepare: let it finish first"
    assert tenshot("prepare", source, tmp_path / "out", "--image_size", "24").status == 0


def out(*words: str) -> Callable[[Path], list[str | Path]]:
    return lambda tmp: [tmp / "out", *words]


BAD: dict[str, tuple[Callable[[Path], list[str | Path]], int, str]] = {
    "no size": (out(), 1, "--image_size is not set: give the side of the images in pixels"),
    "a size for plain": (out("--image_size", "8", "--convention", "plain"), 1, "--convention plain, which keeps sizes"),
    "size 0": (out("--image_size", "0"), 1, "--image_size is 0: choose at least 1"),
    "no workers": (out("--image_size", "8", "--workers", "0"), 1, "--workers is 0: choose at least 1"),
    "empty shards": (out("--image_size", "8", "--shard_size", "0"), 1, "--shard_size is 0: choose at least 1"),
    "convention": (out("--image_size", "8", "--convention", "admm"), 2, "(did you mean 'adm'?)"),
    "option": (out("--imagesize", "8"), 2, "unknown option --imagesize (did you mean --image_size?)"),
    "inside": (lambda tmp: [tmp / "in" / "out", "--image_size", "8"], 1, "choose a place outside"),
    "a file": (lambda tmp: [tmp / "in" / "a.png", "--image_size", "8"], 1, "choose a place outside"),
    "taken": (lambda tmp: [tmp / "other", "--image_size", "8"], 1, "is there already: choose another name"),
    "a folder with an ending": (lambda tmp: [tmp / "folder.zip", "--image_size", "8"], 1, "folder.zip is a folder"),
    "compressed": (lambda tmp: [tmp / "out.tar.gz", "--image_size", "8"], 1, "name a folder, .zip or .tar"),
    "not to be written": (lambda tmp: [tmp / "file" / "out", "--image_size", "8"], 1, "cannot be written (Not a dir"),
}


@pytest.mark.parametrize("case", BAD)
def test_mistakes_are_one_line(tenshot: tiny.Run, tmp_path: Path, case: str):
    (tmp_path / "in").mkdir()
    example(0).save(tmp_path / "in" / "a.png")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mine.txt").touch()
    (tmp_path / "folder.zip").mkdir()
    (tmp_path / "file").touch()
    words, status, found = BAD[case]
    outcome = tenshot("prepare", tmp_path / "in", *words(tmp_path))
    assert found in outcome.complaint
    assert outcome.status == status


def test_sources_that_are_not_there_or_of_no_use(tenshot: tiny.Run, tmp_path: Path):
    size = ["--image_size", "24"]
    assert (
        "gone does not exist: set SOURCE to" in tenshot("prepare", tmp_path / "gone", tmp_path / "out", *size).complaint
    )
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").write_text("none")
    complaint = tenshot("prepare", tmp_path / "in", tmp_path / "out", *size).complaint
    assert f"none of the 1 images in {tmp_path}/in can be used" in complaint
    assert "a.png is not an image" in complaint


def test_an_output_of_other_settings_or_images_is_left_alone(tenshot: tiny.Run, tmp_path: Path):
    (tmp_path / "in").mkdir()
    example(0).save(tmp_path / "in" / "a.png")
    words = ["prepare", tmp_path / "in", tmp_path / "out"]
    tenshot(*words, "--image_size", "24")
    assert "was begun with --image_size 24: choose another name" in tenshot(*words, "--image_size", "16").complaint
    complaint = tenshot(*words, "--image_size", "24", "--convention", "cdc").complaint
    assert "was begun with --convention adm" in complaint
    example(1).save(tmp_path / "in" / "b.png")
    os.utime(tmp_path / "in", (1e9, 1e9))
    assert "was begun of other images" in tenshot(*words, "--image_size", "24").complaint
    assert np.array_equal(pixels(contents(tmp_path / "out")["a.png"]), np.asarray(resized(example(0), 24)))


def test_a_killed_worker_is_one_line(source: Path, tmp_path: Path, monkeypatch, tenshot: tiny.Run):
    monkeypatch.setattr(module, "_png", lambda image: os.kill(os.getpid(), signal.SIGKILL))
    complaint = tenshot("prepare", source, tmp_path / "out", "--image_size", "24", "--workers", "1").complaint
    assert "a worker process was killed" in complaint
    assert "--workers" in complaint
