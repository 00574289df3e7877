"""A classifier on the command line: trained, validated, converted, started from, and guiding."""

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
import yaml
from safetensors import safe_open
from safetensors.torch import load_file

from tenshot.callbacks.metric_inputs import MetricInputs
from tenshot.cli import main


def config_file(folder: Path) -> Path:
    """``tiny.COMMAND_LINE`` for a classifier of the nine classes of drawn faces."""
    config: dict[str, Any] = deepcopy(tiny.COMMAND_LINE)
    network = config["model"]["init_args"]["unet"] | {"out_channels": 9}
    config["model"] = {"class_path": "NoisyClassifier", "init_args": {"classifier": network}}
    config["data"]["init_args"] |= {"labels": True, "num_val": 4}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return folder / "config.yaml"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of a classifier, two steps long."""
    folder = tmp_path_factory.mktemp("classifier")
    words = ["--trainer.default_root_dir", str(folder / "run"), "--trainer.log_every_n_steps", "1"]
    main(["fit", "--config", str(config_file(folder)), *words])
    return folder / "run"


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory, run: Path) -> Path:
    path = tmp_path_factory.mktemp("converted") / "classifier.safetensors"
    main(["convert", str(run), str(path)])
    return path


def test_a_run_writes_a_log_a_checkpoint_and_no_images(run: Path):
    assert sorted(path.name for path in run.iterdir()) == ["checkpoints", "config.yaml", "data.json", "logs"]
    content = torch.load(run / "checkpoints" / "step=00000002.ckpt", weights_only=True)
    assert content["tenshot"]["classifier"]["out_channels"] == 9


def test_validate_measures_its_checkpoint(tenshot: tiny.Run, run: Path):
    outcome = tenshot("validate", "--ckpt_path", run)
    assert outcome.status == 0, outcome.err
    for name in ("val/loss", "val/accuracy@1", "val/accuracy@5"):
        assert name in outcome.out


@pytest.mark.parametrize(
    "words", [["predict", "--images.count", "1"], ["test", "--evaluate.samples", "2", "--evaluate.features", "random"]]
)
def test_there_is_nothing_to_draw_or_to_measure(
    tenshot: tiny.Run, run: Path, words: list[str], monkeypatch: pytest.MonkeyPatch
):
    """Which is said before real images are shown to a metric."""
    shown: list[object] = []
    monkeypatch.setattr(MetricInputs, "show_real", lambda *arguments: shown.append(arguments))
    complaint = tenshot(*words, "--ckpt_path", run).complaint
    assert "NoisyClassifier draws no images: draw from a diffusion model" in complaint
    assert not (run / "images").exists()
    assert not shown


def test_converted_it_has_the_averaged_weights_and_their_description(run: Path, converted: Path):
    content = torch.load(run / "checkpoints" / "step=00000002.ckpt", weights_only=True)
    tiny.assert_same(load_file(converted), content["ema"]["weights"]["classifier"])
    with safe_open(converted, framework="pt") as file:
        header = {name: json.loads(value) for name, value in file.metadata().items()}
    assert header == content["tenshot"]


def test_a_run_that_started_from_a_file_goes_on_without_it(tenshot: tiny.Run, converted: Path, tmp_path: Path):
    weights = tmp_path / "weights.safetensors"
    weights.write_bytes(converted.read_bytes())
    config = yaml.safe_load(converted.with_suffix(".yaml").read_text())
    config["model"]["init_args"]["init_from"] = str(weights)
    config |= {name: yaml.safe_load(config_file(tmp_path).read_text())[name] for name in ("data", "trainer")}
    (tmp_path / "start.yaml").write_text(yaml.safe_dump(config))
    words = ["fit", "--config", tmp_path / "start.yaml", "--trainer.default_root_dir", tmp_path / "run"]
    assert tenshot(*words, "--trainer.max_steps", "1").status == 0

    weights.unlink()
    outcome = tenshot(*words, "--ckpt_path", "last")
    assert outcome.status == 0, outcome.err
    assert (tmp_path / "run" / "checkpoints" / "step=00000002.ckpt").exists()


def test_images_take_the_size_of_the_classifier(tenshot: tiny.Run, run: Path, shots: Path, tmp_path: Path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "only").symlink_to(shots)
    words = ["fit", "--model", "NoisyClassifier", "--model.init_from", run, "--trainer.max_steps", "1"]
    words += ["--data", "ImageFolder", "--data.root", tmp_path / "data", "--data.labels", "true"]
    outcome = tenshot(*words, "--trainer.accelerator", "cpu", "--trainer.default_root_dir", tmp_path / "run")
    assert "the classifier has 9 classes (--model.classifier.out_channels), the data 1" in outcome.complaint


def test_predict_is_guided_whatever_the_batch_size(
    tenshot: tiny.Run, trained: Path, run: Path, converted: Path, tmp_path: Path
):
    def draw(name: str, *words: str | Path) -> list[bytes]:
        outcome = tenshot("predict", "--ckpt_path", trained, "--images.dir", tmp_path / name, *words)
        assert outcome.status == 0, outcome.err
        return [path.read_bytes() for path in sorted((tmp_path / name).glob("*.png"))]

    count = ["--images.count", "5"]
    strong = ["--model.guidance.scale", "3000"]
    plain, by_run = draw("plain", *count), draw("run", *count, "--model.guidance.classifier", run, *strong)
    assert len(by_run) == 5
    assert not set(plain) & set(by_run)
    assert draw(
        "file", *count, "--model.guidance.classifier", converted, *strong, "--images.batch_size", "2"
    ) == by_run  # fmt: skip


def test_guidance_by_what_is_no_classifier(tenshot: tiny.Run, trained: Path, tmp_path: Path):
    words = ["predict", "--ckpt_path", trained, "--images.dir", tmp_path / "images", "--model.guidance.classifier"]
    assert "a checkpoint of DDPM, which has no classifier of noisy images" in tenshot(*words, trained).complaint
    assert "nowhere: no such checkpoint file or run folder" in tenshot(*words, "nowhere").complaint
    assert not (tmp_path / "images").exists()
