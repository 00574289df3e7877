"""The GAN methods on the command line."""

import json
import shutil
from pathlib import Path

import pytest
import tiny
from PIL import Image

from tenshot.cli import main

NETWORK = {
    "image_size": 32, "channel_base": 256, "max_channels": 16, "latent_dim": 8, "mapping_layers": 2,
}  # fmt: skip
CHANGES = {
    "model": {"class_path": "StyleGAN2", "init_args": {"stylegan2": NETWORK}},
    "data": {"init_args": {"image_size": 32}},
}
SHOTS = ["--data.shots", "5", "--data.domain", "sunglasses"]
FEW = ["--evaluate.features", "random", "--evaluate.samples", "6", "--evaluate.reference", "6", "--evaluate.paths", "2"]


def config(folder: Path) -> str:
    command = tiny.COMMAND_LINE | {"model": CHANGES["model"]}
    data = command["data"] | {"init_args": command["data"]["init_args"] | CHANGES["data"]["init_args"]}
    return str(tiny.write_yaml(folder / "gan.yaml", command | {"data": data}))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run of StyleGAN2, ``source``, and one of CDC from it, ``cdc``. Not to be changed."""
    folder = tmp_path_factory.mktemp("gans")
    words = ["fit", "--config", config(folder)]
    main([*words, "--trainer.default_root_dir", str(folder / "source")])
    adapt = ["--model", "CDC", "--model.init_from", str(folder / "source"), *SHOTS]
    main([*words, *adapt, "--model.stylegan2", "null", "--trainer.default_root_dir", str(folder / "cdc")])
    return folder


def test_an_adapted_model_draws_and_is_measured_without_its_source(tenshot: tiny.Run, runs: Path, tmp_path: Path):
    run = shutil.copytree(runs / "cdc", tmp_path / "run")  # alone: where the source was is not looked at
    moved = (run / "config.yaml").read_text().replace(str(runs / "source"), "/nowhere")
    (run / "config.yaml").write_text(moved)

    drawn = tenshot("predict", "--ckpt_path", run, "--images.count", "3")
    assert drawn.status == 0, drawn.err
    assert Image.open(run / "images" / "000002.png").size == (32, 32)
    measured = tenshot("test", "--ckpt_path", run, *FEW, "--strip.every_n_steps", "1")
    assert measured.status == 0, measured.err
    [result] = (run / "evaluations").glob("*.json")
    content = json.loads(result.read_text())
    assert content["method"] == "CDC"
    assert {"fd_random", "intra_dist_random", "path_dist_random_std", "path_dist_random_wend"} <= content[
        "values"
    ].keys()
    assert list((run / "strips").glob("*.png"))


def test_images_take_the_size_of_the_networks(tenshot: tiny.Run, runs: Path, tmp_path: Path):
    words = [
        "fit",
        "--config",
        config(tmp_path),
        "--data.image_size",
        "null",
        "--trainer.default_root_dir",
        tmp_path / "r",
    ]
    for model in ([], ["--model.stylegan2", "null", "--model.init_from", runs / "source"]):
        outcome = tenshot(*words, *model)
        assert outcome.status == 0, outcome.err


def test_a_gan_has_no_validation_loss(tenshot: tiny.Run, runs: Path):
    complaint = tenshot("validate", "--ckpt_path", runs / "source", "--data.num_val", "3").complaint
    assert complaint == "StyleGAN2 has no validation loss: measure its images with tenshot test"


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--model.stylegan2.image_size", "48"], "stylegan2.image_size is 48: choose a power of two from 8 on"),
        (["--data.batch_size", "6"], "--data.batch_size is 6, but the discriminator compares groups of 4 images"),
        (["--model.augmentation", "DiffAugment", "--model.augmentation.policy", "colour"], "'colour'"),
        (["--trainer.precision", "bf16-true"], "--trainer.precision bf16-true rounds the small steps"),
        (["--model.style_mixing", "2"], "--model.style_mixing is 2.0: choose a number in [0, 1]"),
        (["--model", "CDC", "--model.stylegan2.image_size", "32"], "CDC adapts a trained model: give its checkpoint"),
        (["--model", "MixDL", "--model.stylegan2.image_size", "16", "--data.image_size", "16"], "32 px"),
    ],
)
def test_mistakes_are_one_line(tenshot: tiny.Run, tmp_path: Path, words: list[str], complaint: str):
    run = tmp_path / "run"
    outcome = tenshot("fit", "--config", config(tmp_path), *words, "--trainer.default_root_dir", run)
    assert complaint in outcome.complaint
    assert not (run / "checkpoints").exists()


def test_a_checkpoint_of_another_size_is_refused(tenshot: tiny.Run, runs: Path, tmp_path: Path):
    words = ["fit", "--config", config(tmp_path), "--model.stylegan2.image_size", "64", "--data.image_size", "64"]
    complaint = tenshot(*words, "--ckpt_path", runs / "source").complaint
    assert "another network, with stylegan2.image_size 32 (here 64): give the configuration of its run" in complaint
