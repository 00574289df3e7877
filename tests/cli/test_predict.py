"""``tenshot predict``: numbered pictures, each a function of (seed, number) and the weights alone."""

from pathlib import Path

import numpy as np
import tiny
import torch
from PIL import Image

from tenshot.callbacks.image_writer import to_uint8
from tenshot.lightning_modules import DDPM


def draw(tenshot: tiny.Run, run: Path, folder: Path, count: int, *words: str | Path) -> dict[str, bytes]:
    """The files that ``tenshot predict`` leaves in a folder."""
    outcome = tenshot("predict", "--ckpt_path", run, "--images.dir", folder, "--images.count", str(count), *words)
    assert outcome.status == 0, outcome.err
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_pictures_do_not_depend_on_the_batch_size(tenshot: tiny.Run, trained: Path, tmp_path: Path):
    drawn = [
        draw(tenshot, trained, tmp_path / str(size), 8, "--images.batch_size", str(size)) for size in (1, 7, 64)
    ]  # fmt: skip
    assert drawn[0] == drawn[1] == drawn[2]
    assert sorted(drawn[0]) == [f"{number:06d}.png" for number in range(8)]
    assert len(set(drawn[0].values())) == 8


def test_pictures_are_those_of_the_averaged_weights_and_of_their_numbers(
    tenshot: tiny.Run, trained: Path, tmp_path: Path
):
    draw(tenshot, trained, tmp_path / "ema", 3, "--images.seed", "5")
    draw(tenshot, trained, tmp_path / "raw", 3, "--images.seed", "5", "--ema.evaluate", "raw")
    for weights in ("ema", "raw"):
        module = DDPM(init_from=str(trained), init_weights=weights, sampler=tiny.QUICK)  # type: ignore[arg-type]
        module.configure_model()
        expected = to_uint8(module.sample((5 << 32) + torch.arange(3))).numpy()
        for number in range(3):
            assert (np.asarray(Image.open(tmp_path / weights / f"{number:06d}.png")) == expected[number]).all()


def test_a_second_call_adds_what_is_missing_and_touches_nothing_else(tenshot: tiny.Run, trained: Path, tmp_path: Path):
    whole = draw(tenshot, trained, tmp_path, 6)
    for number in (1, 4):
        (tmp_path / f"{number:06d}.png").unlink()
    (tmp_path / "000002.png").write_bytes(b"somebody's own")
    before = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    again = draw(tenshot, trained, tmp_path, 8, "--images.batch_size", "3")

    assert {name: (tmp_path / name).stat().st_mtime_ns for name in before} == before
    assert again.pop("000002.png") == b"somebody's own"
    new = {name: again.pop(name) for name in ("000006.png", "000007.png")}
    del whole["000002.png"]
    assert again == whole
    assert not set(new.values()) & set(whole.values())


def test_nothing_is_left_to_draw(tenshot: tiny.Run, trained: Path, tmp_path: Path):
    first = draw(tenshot, trained, tmp_path, 2)
    outcome = tenshot("predict", "--ckpt_path", trained, "--images.dir", tmp_path, "--images.count", "2")
    assert outcome.status == 0
    assert "2 of them are there already" in outcome.log
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == first


def test_a_run_that_was_moved_keeps_its_pictures_with_it(tenshot: tiny.Run, run_copy: Path, trained: Path):
    assert tenshot("predict", "--ckpt_path", run_copy, "--images.count", "2").status == 0
    assert sorted(path.name for path in (run_copy / "images").iterdir()) == ["000000.png", "000001.png"]
    assert not (trained / "images").exists()


def test_the_sampler_may_change(tenshot: tiny.Run, trained: Path, tmp_path: Path):
    configured = draw(tenshot, trained, tmp_path / "a", 2)
    other = draw(
        tenshot, trained, tmp_path / "b", 2, "--model.sampler.method", "dpm_solver", "--model.sampler.steps", "3"
    )
    assert not set(configured.values()) & set(other.values())


def test_an_older_checkpoint_of_the_run(tenshot: tiny.Run, trained: Path, tmp_path: Path):
    older = draw(tenshot, trained / "checkpoints" / "step=00000002.ckpt", tmp_path / "2", 1)
    newest = draw(tenshot, trained / "checkpoints" / "step=00000004.ckpt", tmp_path / "4", 1)
    assert older != newest
    assert draw(tenshot, trained, tmp_path / "newest", 1) == newest
