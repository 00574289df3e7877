"""The record of a run's images: in its folder, in its checkpoints, and used by what comes later."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import tiny
import torch
from PIL import Image

from tenshot.datamodules import FewShot
from tenshot.reports.run import read_run
from tenshot.reports.shots import shots_of


def test_a_choice_once_made_stays(tenshot: tiny.Run, shots: Path, tmp_path: Path):
    folder, run = Path(shutil.copytree(shots, tmp_path / "shots")), tmp_path / "run"
    chosen = {"class_path": "FewShot", "init_args": {"root": str(folder), "shots": 3, "image_size": 16}}
    config = tiny.config_file(tmp_path, {"data": {"class_path": "FewShot"}})
    text = Path(config).read_text()
    content: dict[str, Any] = tiny.yaml.safe_load(text) | {"data": chosen}
    tiny.write_yaml(Path(config), content)
    words = ["fit", "--config", config, "--trainer.default_root_dir", run]
    assert tenshot(*words, "--trainer.max_steps", "1").status == 0
    record = json.loads((run / "data.json").read_text())
    first = torch.load(run / "checkpoints" / "step=00000001.ckpt", weights_only=True)
    assert first["data"] == record
    began_with = FewShot(str(folder), shots=3, image_size=16).train_source.read(range(3))["image"]

    for number in range(20):
        Image.new("RGB", (16, 16), (number, 0, 0)).save(folder / f"0{number}.png")
    went_on = tenshot(*words, "--ckpt_path", run, "--trainer.max_steps", "2")
    assert went_on.status == 0, went_on.err
    assert f"{folder} has changed since the run began (5 images then, 25 now)" in went_on.log
    assert json.loads((run / "data.json").read_text()) == record
    assert torch.load(run / "checkpoints" / "step=00000002.ckpt", weights_only=True)["data"] == record
    assert (shots_of(read_run(run)) == began_with.permute(0, 2, 3, 1).numpy()).all()

    words = ["test", "--ckpt_path", run, "--evaluate.features", "random", "--evaluate.samples", "2"]
    (folder / record["train"]["names"][0]).unlink()
    outcome = tenshot(*words, "--evaluate.metrics", "[nearest_lpips]")
    assert f"{record['train']['names'][0]}: missing, but the run began with it" in outcome.complaint


def test_a_run_from_before_goes_on_as_it_began(tenshot: tiny.Run, trained: Path, tmp_path: Path, shots: Path):
    """Its checkpoints and its folder hold no record; from now on they do."""
    run = Path(shutil.copytree(trained, tmp_path / "run"))
    (run / "data.json").unlink()
    newest = run / "checkpoints" / "step=00000004.ckpt"
    content = torch.load(newest, weights_only=True)
    assert content.pop("data")["class"] == "SyntheticFaces"
    torch.save(content, newest)
    config = ["--config", run / "config.yaml", "--ckpt_path", run, "--trainer.max_steps", "5"]
    data = ["--data", "FewShot", "--data.root", shots, "--data.shots", "2", "--data.seed", "9"]
    outcome = tenshot("fit", *config, *data, "--data.batch_size", "2")
    assert outcome.status == 0, outcome.err
    assert "chosen by place in the listing, as the run once did" in outcome.log
    record = json.loads((run / "data.json").read_text())
    drawn = np.sort(np.random.default_rng(9).permutation(5)[:2])
    assert record["train"]["names"] == [f"{row}.png" for row in drawn.tolist()]
