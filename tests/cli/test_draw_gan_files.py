"""``tenshot predict`` and ``test`` of StyleGAN2s straight from files: public ones, converted ones, and our own."""

import json
import math
from pathlib import Path

import numpy as np
import nvlabs_files
import pytest
import stylegan2_files as files
import tiny
import torch
from PIL import Image

from tenshot.cli import main
from tenshot.distributed.seeding import position_seed

AVERAGE_LATENT = torch.linspace(-1, 1, files.DIM)
KINDS = ["rosinality.pt", "nvlabs.pkl", "converted.safetensors"]
SMALL = ["--data", "SyntheticFaces", "--data.image_size", "16", "--data.num_images", "8", "--data.num_val", "0"]
FEW = ["--evaluate.features", "random", "--evaluate.samples", "6", "--evaluate.reference", "6", "--evaluate.paths", "2"]
CPU = ["--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One StyleGAN2 of 16 px, whose averaged and raw weights differ, in every kind of file."""
    folder = tmp_path_factory.mktemp("public")
    public = files.checkpoint(latent_avg=AVERAGE_LATENT)
    torch.save(public, folder / KINDS[0])
    judge = nvlabs_files.nvlabs_discriminator(files.discriminator_state())
    content = {"D": nvlabs_files.network("Discriminator", judge, img_resolution=16, c_dim=0, img_channels=3)}
    for name, weights in (("G", public["g"]), ("G_ema", public["g_ema"])):
        state = nvlabs_files.nvlabs_state(weights, AVERAGE_LATENT)
        content[name] = nvlabs_files.network("Generator", state, z_dim=files.DIM, w_dim=files.DIM, c_dim=0)
    nvlabs_files.dump(content, folder / KINDS[1])
    main(["convert", str(folder / KINDS[1]), str(folder / KINDS[2])])
    return folder


def expected(weights: str, number: int, seed: int = 0) -> np.ndarray:
    """Image of that number by the formulas of the papers, with the random numbers that belong to it."""
    state = files.checkpoint()[weights]
    random = torch.Generator().manual_seed(position_seed([(seed << 32) + number]))
    w = files.mapped(state, torch.randn(files.DIM, generator=random)[None])
    for layer in range(5):
        shape = state[f"noises.noise_{layer}"].shape[1:]
        state[f"noises.noise_{layer}"] = torch.randn(shape, generator=random)[None]
    image = files.images_from(state, w)[0].clamp(-1, 1)
    return ((image + 1) * 127.5).round().to(torch.uint8).permute(1, 2, 0).numpy()


def drawn(folder: Path, number: int) -> np.ndarray:
    return np.asarray(Image.open(folder / "images" / f"{number:06d}.png"))


@pytest.mark.parametrize("kind", KINDS)
def test_the_averaged_weights_of_a_file_draw(tenshot: tiny.Run, folder: Path, tmp_path: Path, kind: str):
    words = ["--images.count", "2", "--trainer.default_root_dir", tmp_path]
    outcome = tenshot("predict", "--ckpt_path", folder / kind, *CPU, *words)
    assert outcome.status == 0, outcome.err
    for number in range(2):
        assert np.abs(drawn(tmp_path, number).astype(int) - expected("g_ema", number)).max() <= 1
    record = json.loads((tmp_path / "images" / "drawn_by.json").read_text())
    assert record["checkpoint"] == str(folder / kind)
    assert record["weights"].startswith(f"{folder / kind}: ")


@pytest.mark.parametrize("kind", KINDS[:2])
@pytest.mark.parametrize("words", [["--ema.evaluate", "raw"], ["--model.init_weights", "raw"]])
def test_the_raw_ones_draw_where_they_are_asked_for(
    tenshot: tiny.Run, folder: Path, tmp_path: Path, kind: str, words: list[str]
):
    words = [*words, "--images.count", "1", "--trainer.default_root_dir", str(tmp_path)]
    outcome = tenshot("predict", "--model", "StyleGAN2", "--model.init_from", folder / kind, *CPU, *words)
    assert outcome.status == 0, outcome.err
    assert np.abs(drawn(tmp_path, 0).astype(int) - expected("g", 0)).max() <= 1
    assert np.abs(expected("g_ema", 0).astype(int) - expected("g", 0)).max() > 50


def test_all_files_of_one_model_get_the_same_table(tenshot: tiny.Run, folder: Path, tmp_path: Path):
    tables = {}
    for kind in KINDS:
        words = ["--ckpt_path", folder / kind, *CPU, *SMALL, *FEW, "--trainer.default_root_dir", tmp_path / kind]
        outcome = tenshot("test", *words)
        assert outcome.status == 0, outcome.err
        [result] = (tmp_path / kind / "evaluations").glob("*.json")
        content = json.loads(result.read_text())
        assert content["weights"].startswith(f"weights: {folder / kind}: ")
        tables[kind] = {name: math.nan if value is None else value for name, value in content["values"].items()}
    assert {"fd_random", "intra_dist_random", "path_dist_random_ends"} <= tables[KINDS[0]].keys()
    for kind in KINDS[1:]:
        assert tables[kind] == pytest.approx(tables[KINDS[0]], rel=1e-3, nan_ok=True)


def test_so_does_a_checkpoint_of_ours_copied_out_of_its_run(tenshot: tiny.Run, folder: Path, tmp_path: Path):
    """Trained for a step: by its averaged weights, whether as a file alone, converted, or in its run."""
    run = tmp_path / "run"
    start = ["--model", "StyleGAN2", "--model.init_from", folder / KINDS[0], "--trainer.max_steps", "1"]
    outcome = tenshot("fit", *start, *CPU, *SMALL, "--data.batch_size", "4", "--trainer.default_root_dir", run)
    assert outcome.status == 0, outcome.err
    checkpoint = run / "checkpoints" / "step=00000001.ckpt"
    alone = tmp_path / "alone.ckpt"
    alone.write_bytes(checkpoint.read_bytes())
    assert tenshot("convert", run, tmp_path / "ours.safetensors").status == 0
    images = []
    for number, file in enumerate((run, checkpoint, alone, tmp_path / "ours.safetensors")):
        words = ["--images.count", "2", *CPU, "--trainer.default_root_dir", tmp_path / str(number)]
        outcome = tenshot("predict", "--ckpt_path", file, *words)
        assert outcome.status == 0, outcome.err
        images.append(np.stack([drawn(tmp_path / str(number), image) for image in range(2)]))
    for other in images[1:]:
        assert np.array_equal(images[0], other)
    assert not np.array_equal(images[0][0], images[0][1])
