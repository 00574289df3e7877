"""A run from start to end: its folder, its configuration, resuming, evaluating and drawing from it."""

import csv
import shutil
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
import yaml

from tenshot.models.pretrained import sha256
from tenshot.run import RunLock


def content(run: Path, step: int) -> dict[str, Any]:
    return torch.load(run / "checkpoints" / f"step={step:08d}.ckpt", weights_only=True)


def hashes(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): sha256(path) for path in folder.rglob("*") if path.is_file()}


def printed(outcome: tiny.Outcome) -> dict[str, Any]:
    assert outcome.status == 0, outcome.err
    return yaml.safe_load(outcome.out)


# Configuration


def test_what_is_printed_can_be_fed_back(tenshot: tiny.Run, tmp_path: Path):
    words = ["--model.vlb_weight", "0.5", "--trainer.callbacks+=LearningRateMonitor", "--ema.decay", "0.9"]
    first = printed(tenshot("fit", "--config", tiny.config_file(tmp_path), *words, "--print_config"))
    (tmp_path / "printed.yaml").write_text(yaml.safe_dump(first))
    second = printed(tenshot("fit", "--config", tmp_path / "printed.yaml", "--print_config"))

    assert second == first
    assert first["model"]["init_args"]["vlb_weight"] == 0.5
    assert first["ema"]["decay"] == 0.9
    assert first["trainer"]["callbacks"][0]["class_path"].endswith("LearningRateMonitor")


def test_a_later_configuration_overrides_an_earlier_one_and_the_command_line_both(tenshot: tiny.Run, tmp_path: Path):
    later = tmp_path / "later.yaml"
    later.write_text("trainer: {max_steps: 7}\nmodel: {init_args: {vlb_weight: 0.25}}\nema: {decay: 0.5}\n")
    merged = printed(
        tenshot(
            "fit", "--config", tiny.config_file(tmp_path), "--config", later, "--ema.decay", "0.75", "--print_config"
        )
    )
    assert merged["trainer"]["max_steps"] == 7
    assert merged["model"]["init_args"]["vlb_weight"] == 0.25
    assert merged["model"]["init_args"]["unet"]["image_size"] == 16  # what the later one does not say stays
    assert merged["ema"]["decay"] == 0.75


def test_data_may_change_on_the_command_line(tenshot: tiny.Run, tmp_path: Path, shots: Path):
    words = ["--data", "FewShot", "--data.root", shots, "--data.shots", "3", "--data.batch_size", "2"]
    merged = printed(tenshot("fit", "--config", tiny.config_file(tmp_path), *words, "--print_config"))
    assert merged["data"]["class_path"].endswith("FewShot")
    assert merged["data"]["init_args"]["shots"] == 3
    assert "num_images" not in merged["data"]["init_args"]


def test_a_run_writes_down_its_configuration_and_its_losses(trained: Path):
    written = yaml.safe_load((trained / "config.yaml").read_text())
    assert written["model"]["class_path"] == "tenshot.DDPM"
    assert written["trainer"]["max_steps"] == 4
    assert written["seed_everything"] == 0
    assert sorted(path.name for path in (trained / "checkpoints").iterdir()) == [
        "step=00000002.ckpt",
        "step=00000004.ckpt",
    ]


def test_losses_are_logged(tenshot: tiny.Run, tmp_path: Path):
    changes = {"trainer": {"log_every_n_steps": 1, "val_check_interval": 2, "check_val_every_n_epoch": None}}
    config = tiny.config_file(tmp_path, changes, {"data": {"init_args": {"num_val": 3}}})
    assert tenshot("fit", "--config", config, "--trainer.default_root_dir", tmp_path / "run").status == 0

    [log] = (tmp_path / "run" / "logs").glob("*/metrics.csv")
    rows = list(csv.DictReader(log.open()))
    losses = [float(row["train/loss"]) for row in rows if row["train/loss"]]
    assert len(losses) == 2
    assert losses[0] == pytest.approx(1, abs=0.6)
    assert [row["step"] for row in rows if row["val/loss"]] == ["1"]


# Folders


def test_a_second_run_goes_beside_the_first(tenshot: tiny.Run, run_copy: Path):
    before = hashes(run_copy)
    words = ["fit", "--config", run_copy / "config.yaml", "--trainer.default_root_dir", run_copy]
    words += ["--trainer.max_steps", "1"]
    outcome = tenshot(*words)
    assert outcome.status == 0
    assert f"holds a run (resume it with --ckpt_path {run_copy})" in outcome.log
    assert tenshot(*words).status == 0

    assert hashes(run_copy) == before
    for name in ("run-2", "run-3"):
        folder = run_copy.with_name(name)
        assert (folder / "checkpoints" / "step=00000001.ckpt").exists()
        assert yaml.safe_load((folder / "config.yaml").read_text())["trainer"]["default_root_dir"] == str(folder)


def test_without_a_folder_runs_go_by_their_method(tenshot: tiny.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    config = tiny.config_file(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert tenshot("fit", "--config", config, "--trainer.max_steps", "1").status == 0
    assert (tmp_path / "runs" / "ddpm" / "checkpoints" / "step=00000001.ckpt").exists()


def test_two_jobs_never_write_into_one_folder(tenshot: tiny.Run, run_copy: Path, tmp_path: Path):
    words = ["fit", "--config", run_copy / "config.yaml", "--trainer.default_root_dir", run_copy, "--ckpt_path", "last"]
    before = hashes(run_copy)
    with RunLock(run_copy):
        complaint = tenshot(*words, "--trainer.max_steps", "6").complaint
        assert f"{run_copy}: another process writes here" in complaint
    assert hashes(run_copy) == before
    assert tenshot(*words, "--trainer.max_steps", "5").status == 0
    assert not (run_copy / "run.lock").exists()


def test_a_resumed_run_goes_on_in_its_folder(tenshot: tiny.Run, run_copy: Path):
    words = ["fit", "--config", run_copy / "config.yaml", "--trainer.default_root_dir", run_copy]
    written = (run_copy / "config.yaml").read_text()
    assert tenshot(*words, "--ckpt_path", "last", "--trainer.max_steps", "6").status == 0

    assert not run_copy.with_name("run-2").exists()
    assert (run_copy / "config.yaml").read_text().replace("max_steps: 6", "max_steps: 4") == written.replace(
        f"default_root_dir: {yaml.safe_load(written)['trainer']['default_root_dir']}", f"default_root_dir: {run_copy}"
    )
    assert content(run_copy, 6)["global_step"] == 6
    assert content(run_copy, 6)["ema"]["updates"] == 6


def test_resuming_from_a_folder_or_a_file_is_the_same(tenshot: tiny.Run, run_copy: Path, tmp_path: Path):
    words = ["fit", "--config", run_copy / "config.yaml", "--trainer.max_steps", "5"]
    for name, path in (("a", run_copy), ("b", run_copy / "checkpoints" / "step=00000004.ckpt")):
        assert tenshot(*words, "--trainer.default_root_dir", tmp_path / name, "--ckpt_path", path).status == 0
    a, b = content(tmp_path / "a", 5), content(tmp_path / "b", 5)
    tiny.assert_same(a["state_dict"], b["state_dict"])
    assert not torch.equal(a["state_dict"]["unet.conv.weight"], content(run_copy, 4)["state_dict"]["unet.conv.weight"])


def test_last_without_a_checkpoint_starts_from_the_beginning(tenshot: tiny.Run, tmp_path: Path):
    words = ["--trainer.default_root_dir", tmp_path / "run", "--ckpt_path", "last", "--trainer.max_steps", "1"]
    outcome = tenshot("fit", "--config", tiny.config_file(tmp_path), *words)
    assert outcome.status == 0
    assert "no checkpoint yet, starting from the beginning" in outcome.log
    assert content(tmp_path / "run", 1)["global_step"] == 1


# Adapting


@pytest.fixture
def adapted(tenshot: tiny.Run, run_copy: Path, tmp_path: Path, shots: Path) -> tuple[Path, list[str | Path]]:
    """A run that started from another one's weights, which are gone by now, and its command line."""
    config = tmp_path / "adapt.yaml"
    whole = yaml.safe_load(Path(tiny.config_file(tmp_path)).read_text())
    del whole["model"]["init_args"]["unet"]
    config.write_text(yaml.safe_dump(whole))
    words: list[str | Path] = ["fit", "--config", config, "--model.init_from", run_copy, "--data", "FewShot"]
    words += ["--data.root", shots, "--data.batch_size", "2", "--trainer.default_root_dir", tmp_path / "adapted"]
    assert tenshot(*words).status == 0
    shutil.rmtree(run_copy)
    return tmp_path / "adapted", words


def test_an_adapted_run_has_the_network_of_its_source(adapted: tuple[Path, list[str | Path]], trained: Path):
    ours, source = content(adapted[0], 2), content(trained, 4)
    assert ours["tenshot"] == source["tenshot"]
    moved = ours["state_dict"]["unet.conv.weight"] - source["ema"]["weights"]["unet"]["conv.weight"]
    assert 0 < moved.abs().max() < 0.05  # two steps of Adam from there


def test_an_adapted_run_needs_its_source_no_more(
    tenshot: tiny.Run, adapted: tuple[Path, list[str | Path]], tmp_path: Path
):
    folder, words = adapted
    assert tenshot(*words, "--ckpt_path", "last", "--trainer.max_steps", "3").status == 0
    assert content(folder, 3)["global_step"] == 3
    assert tenshot("predict", "--ckpt_path", folder, "--images.count", "1").status == 0
    assert (folder / "images" / "000000.png").exists()
    assert "no such checkpoint file or run folder" in tenshot(*words).complaint  # a fresh start does need it


def test_the_size_of_images_is_that_of_the_network(tenshot: tiny.Run, tmp_path: Path, shots: Path):
    words = ["--data", "FewShot", "--data.root", shots, "--trainer.max_steps", "1"]
    config = tiny.config_file(tmp_path)
    assert tenshot("fit", "--config", config, *words, "--trainer.default_root_dir", tmp_path / "run").status == 0
    assert yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["data"]["init_args"]["image_size"] == 16


# Evaluating


def test_validation_of_a_run_repeats_what_training_found(tenshot: tiny.Run, tmp_path: Path):
    config = tiny.config_file(
        tmp_path,
        {"data": {"init_args": {"num_val": 5}}, "model": {"init_args": {"bits_per_dim": "3"}}},
        {"trainer": {"val_check_interval": 2, "check_val_every_n_epoch": None, "log_every_n_steps": 1}},
    )
    assert tenshot("fit", "--config", config, "--trainer.default_root_dir", tmp_path / "run").status == 0
    [log] = (tmp_path / "run" / "logs").glob("*/metrics.csv")
    [logged] = [row for row in csv.DictReader(log.open()) if row["val/loss"]]
    outcome = tenshot("validate", "--ckpt_path", tmp_path / "run")

    assert outcome.status == 0
    for name in ("val/loss", "val/bits_per_dim"):
        assert name in outcome.out
        assert f"{float(logged[name]):.4f}"[:-1] in outcome.out


def test_adaptation_resumes_with_its_source_and_draws_without_it(
    tenshot: tiny.Run, trained: Path, shots: Path, tmp_path: Path
):
    source = Path(shutil.copytree(trained, tmp_path / "source"))
    adapt = ["--model", "DDPMPA", "--model.init_from", source, "--model.preview_sampler.steps", "2"]
    adapt += ["--model.sampler.method", "ddim", "--model.sampler.steps", "2", "--model.collapse_every_n_steps", "0"]
    adapt += ["--data", "FewShot", "--data.root", shots, "--data.batch_size", "3"]
    adapt += ["--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false", "--grid.every_n_steps", "0"]

    def fit(folder: Path, steps: int, *more: str) -> tiny.Outcome:
        return tenshot("fit", *adapt, "--trainer.max_steps", str(steps), "--trainer.default_root_dir", folder, *more)

    assert fit(tmp_path / "whole", 2).status == 0
    assert fit(tmp_path / "halves", 1).status == 0
    assert (source / "checkpoints" / "step=00000004.ckpt").is_file()
    later = source / "checkpoints" / "step=00000009.ckpt"
    shutil.copy(source / "checkpoints" / "step=00000002.ckpt", later)  # the source is trained on meanwhile
    resumed = fit(tmp_path / "halves", 2, "--ckpt_path", "last")
    assert resumed.status == 0, resumed.err
    whole, halves = (content(tmp_path / name, 2) for name in ("whole", "halves"))
    for part in ("state_dict", "ema", "optimizer_states"):
        tiny.assert_same(halves[part], whole[part], part)
    assert whole["tenshot"]["source"] == halves["tenshot"]["source"]

    shutil.rmtree(source)
    complaint = fit(tmp_path / "halves", 3, "--ckpt_path", "last").complaint
    assert (
        f"the source model of this adaptation is missing: {source.resolve()}/checkpoints/step=00000004.ckpt"
        in complaint
    )
    drawn = tenshot("predict", "--ckpt_path", tmp_path / "halves", "--images.count", "2")
    assert drawn.status == 0, drawn.err
    assert len(list((tmp_path / "halves" / "images").glob("*.png"))) == 2
