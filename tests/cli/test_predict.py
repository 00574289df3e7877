"""``tenshot predict``: numbered images, each a function of (seed, number) and the weights alone."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from PIL import Image

from tenshot.callbacks.image_writer import to_uint8
from tenshot.lightning_modules import DDPM


def draw(tenshot: tiny.Run, run: Path, folder: Path, count: int, *words: str | Path) -> dict[str, bytes]:
    """The files that ``tenshot predict`` leaves in a folder."""
    outcome = tenshot("predict", "--ckpt_path", run, "--images.dir", folder, "--images.count", str(count), *words)
    assert outcome.status == 0, outcome.err
    return {path.name: path.read_bytes() for path in folder.glob("*.png")}


def test_images_do_not_depend_on_the_batch_size_and_only_those_missing_are_drawn(
    tenshot: tiny.Run, trained: Path, tmp_path: Path
):
    drawn = [draw(tenshot, trained, tmp_path / str(size), 5, "--images.batch_size", str(size)) for size in (1, 3)]
    assert drawn[0] == drawn[1]
    assert sorted(drawn[0]) == [f"{number:06d}.png" for number in range(5)]
    assert len(set(drawn[0].values())) == 5
    kept = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "1").glob("*.png")}
    for number in (1, 4):
        (tmp_path / "1" / f"{number:06d}.png").unlink()
    (tmp_path / "1" / "000002.png").write_bytes(b"")  # as a machine that lost power leaves it
    again = draw(tenshot, trained, tmp_path / "1", 7, "--images.batch_size", "64")
    for name in ("000000.png", "000003.png"):
        assert (tmp_path / "1" / name).stat().st_mtime_ns == kept[name]
    new = {name: again.pop(name) for name in ("000005.png", "000006.png")}
    assert again == drawn[1]
    assert not set(new.values()) & set(drawn[1].values())


def test_images_are_those_of_the_averaged_weights_and_of_their_numbers(
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


def test_nothing_is_left_to_draw(tenshot: tiny.Run, trained: Path, tmp_path: Path):
    first = draw(tenshot, trained, tmp_path, 2)
    outcome = tenshot("predict", "--ckpt_path", trained, "--images.dir", tmp_path, "--images.count", "2")
    assert outcome.status == 0
    assert "2 of them are there already" in outcome.log
    assert {path.name: path.read_bytes() for path in tmp_path.glob("*.png")} == first


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


OLDER = "checkpoints/step=00000002.ckpt"


def test_a_folder_is_of_one_model_seed_and_sampler(tenshot: tiny.Run, trained: Path, tmp_path: Path):
    folder = tmp_path / "images"
    draw(tenshot, trained, folder, 2)
    before = contents(folder)
    (tmp_path / "images-2").mkdir()
    for checkpoint, words, told in (
        (OLDER, [], "ema weights of step 4, not the ema weights of step 2"),
        ("", ["--ema.evaluate", "raw"], "ema weights of step 4, not the raw weights of step 4"),
        ("", ["--images.seed", "1"], "seed 0, not 1"),
        ("", ["--model.sampler.steps", "ddim3"], "sampler {"),
        ("", ["--trainer.precision", "bf16-mixed"], "precision '32-true', not 'bf16-mixed'"),
    ):
        outcome = tenshot("predict", "--ckpt_path", trained / checkpoint, "--images.dir", folder, *words)
        assert f"{folder} holds samples of something else ({told}" in outcome.complaint
        assert f"--images.dir {folder}-3" in outcome.complaint
        assert contents(folder) == before


def test_what_drew_them_is_written_beside_them(
    tenshot: tiny.Run, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    draw(tenshot, trained, tmp_path, 2, "--images.seed", "3")
    record = json.loads((tmp_path / "drawn_by.json").read_text())
    # the fields of a process that folders recorded from the beginning: another one would end their going on
    process = {"num_steps", "schedule", "variance", "prediction", "rescale_timesteps"}
    assert record["depends_on"]["diffusion_config"].keys() == process
    checkpoint = trained / "checkpoints" / "step=00000004.ckpt"
    weights = torch.load(checkpoint, weights_only=True)["ema"]["weights"]["unet"]
    digest = hashlib.sha256()
    for name, value in weights.items():
        digest.update(f"unet.{name} {value.dtype} {tuple(value.shape)}\n".encode() + value.numpy().tobytes())
    depends_on = record["depends_on"]
    assert depends_on["weights_sha256"] == digest.hexdigest()
    assert (depends_on["seed"], depends_on["image_size"], depends_on["precision"]) == (3, 16, "32-true")
    assert depends_on["sampler"] == {"method": "ddim", "steps": "ddim2", "eta": 0.0, "clip_denoised": True}
    assert (record["checkpoint"], record["step"], record["weights"]) == (str(checkpoint.resolve()), 4, "ema")

    monkeypatch.setattr("tenshot.callbacks.drawn_by.code_version", lambda: "newer")
    words = ["--ckpt_path", trained, "--images.dir", tmp_path, "--images.count", "3", "--images.seed", "3"]
    outcome = tenshot("predict", *words)
    assert outcome.status == 0, outcome.err
    assert "from here on by newer" in outcome.log
    assert json.loads((tmp_path / "drawn_by.json").read_text())["code"] == [*record["code"], "newer"]
    assert len(list(tmp_path.glob("*.png"))) == 3


def test_a_run_that_was_moved_keeps_its_images_with_it(tenshot: tiny.Run, run_copy: Path, trained: Path):
    assert tenshot("predict", "--ckpt_path", run_copy, "--images.count", "2").status == 0
    assert sorted(path.name for path in (run_copy / "images").glob("*.png")) == ["000000.png", "000001.png"]
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
