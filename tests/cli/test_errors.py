"""What a user's mistake looks like: one line that says what to do, and a status other than 0."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch

from tenshot.cli import main

Words = Callable[[Path, Path, Path], list[str]]


def fit(*words: str) -> Words:
    """``tenshot fit`` with a good configuration and these words, in which {bad}, {run}, {shots} stand for folders."""
    return line("fit", "--config", "{bad}/good.yaml", "--trainer.default_root_dir", "{bad}/out", *words)


def predict(*words: str) -> Words:
    return line("predict", "--config", "{bad}/good.yaml", "--trainer.default_root_dir", "{bad}/out", *words)


def few(*words: str) -> Words:
    return line(
        "fit", "--config", "{bad}/good.yaml", "--trainer.default_root_dir", "{bad}/out", "--data", "FewShot", *words
    )  # fmt: skip


def line(*words: str) -> Words:
    return lambda bad, run, shots: [word.format(bad=bad, run=run, shots=shots) for word in words]


MISTAKES: dict[str, tuple[Words, int, str]] = {
    # words
    "unknown command": (line("fitt"), 1, r"unknown command 'fitt' \(did you mean 'fit'\?\): see tenshot --help"),
    "no command": (line("--config", "x"), 1, "unknown command '--config'"),
    "unknown option": (fit("--trainer.max_stps", "3"), 2, r"--trainer\.max_stps \(did you mean --trainer\.max_steps\?"),
    "option without its group": (fit("--max_steps", "3"), 2, r"--max_steps \(did you mean --trainer\.max_steps\?\)"),
    "option like no other": (fit("--xyzzy", "3"), 2, r"unknown option --xyzzy$"),
    "unknown option of the method": (fit("--model.objectiv", "vlb"), 2, r"did you mean --model\.objective\?"),
    "unknown option of the network": (fit("--model.unet.chanels", "32"), 2, r" or --model\.unet\.channels\?"),
    "unknown option of a classifier": (
        line("fit", "--model", "NoisyClassifier", "--model.clasifier", "x"), 2, r"did you mean --model\.classifier\?"
    ),
    "unknown option of the average": (fit("--ema.decai", "0.9"), 2, r"did you mean --ema\.decay\?"),
    "stray word": (fit("stray"), 2, "unexpected argument 'stray'"),
    "nothing at all": (line("fit"), 2, "--data and --model must be given, on the command line or in a --config"),
    "no root": (few(), 2, r"--data\.root must be given"),
    # values
    "unknown method": (line("fit", "--model", "DDMP"), 2, r"there is no class 'DDMP' \(did you mean 'DDPM'\?\)"),
    "unknown data": (fit("--data", "FewShots"), 2, r"did you mean 'FewShot'\?\): choose one of FewShot, ImageFolder"),
    "null within a value of the method": (
        line("fit", "--model", "SuperResolution", "--model.augmentation.noise", "null"), 2,
        r"noise: null cannot be given to this option alone: write it into a --config file, or .* '\{\"noise\": null\}'",
    ),
    "unknown optimiser": (fit("--model.optimizer", "Adm"), 2, "optimizer: there is no class 'Adm'"),
    "a word for a number": (fit("--trainer.max_steps", "many"), 2, r"trainer\.max_steps: 'many' does not fit: .* int"),
    "a word in the network": (fit("--model.unet.channels", "wide"), 2, "channels: 'wide' does not fit: expected int"),
    "a word for a rate": (fit("--model.optimizer.init_args.lr", "x"), 2, "lr: 'x' does not fit: expected float"),
    "unknown choice": (fit("--model.objective", "hybird"), 2, r"'hybird' is unknown \(did you mean 'hybrid'\?\)"),
    "unknown sampler": (fit("--model.sampler.method", "dim"), 2, r"did you mean 'ddim'\?\): choose one of ddpm, ddim"),
    "decay out of range": (fit("--ema.decay", "1.5"), 1, r"ema\.decay is 1\.5: choose a number in \[0, 1\)"),
    "no images asked for": (fit("--images.count", "0"), 1, r"images\.count is 0: choose at least 1"),
    "no checkpoints": (fit("--checkpoint.keep", "0"), 1, r"checkpoint\.keep is 0: choose at least 1"),
    "size that cannot be halved": (
        fit("--model.unet.image_size", "17", "--model.unet.channel_mult", "[1, 2]"),
        1,
        r"unet\.image_size 17 cannot be halved",
    ),
    "sizes that differ": (fit("--data.image_size", "32"), 1, "images of 32 px .* for a network of 16 px"),
    "no end": (fit("--trainer.max_steps", "-1"), 1, "the run has no end: set --trainer.max_steps"),
    "a device that is not there": (fit("--trainer.accelerator", "mps"), 1, "--trainer: .*(?i:mps)"),
    "unknown strategy": (fit("--trainer.strategy", "dpp"), 1, "--trainer: .*strategy='dpp'"),
    # configuration files
    "unknown option in YAML": (line("fit", "--config", "{bad}/unknown.yaml"), 2, r"'head_chanels' .*head_channels\?"),
    "unknown section in YAML": (line("fit", "--config", "{bad}/section.yaml"), 2, r"mean --trainer\.max_steps\?"),
    "missing file": (line("fit", "--config", "{bad}/missing.yaml"), 2, r"missing\.yaml"),
    "broken YAML": (line("fit", "--config", "{bad}/broken.yaml"), 1, r"bad.*/broken\.yaml, line 3: not valid YAML"),
    "broken YAML, with =": (line("fit", "--config={bad}/broken.yaml"), 1, r"/broken\.yaml, line 3: not valid YAML"),
    "text for YAML": (fit("-c", "{bad}/text.yaml"), 1, r"/text\.yaml: holds no options"),
    # checkpoints
    "predict what": (predict(), 1, "tenshot predict needs --ckpt_path: a checkpoint, a run's folder, or last"),
    "validate what": (line("validate", "--config", "{bad}/good.yaml"), 1, "tenshot validate needs --ckpt_path"),
    "no such checkpoint": (predict("--ckpt_path", "nowhere.ckpt"), 1, "nowhere.ckpt: no such checkpoint file or run"),
    "no such run": (line("predict", "--ckpt_path", "nowhere"), 1, "nowhere: no such checkpoint file or run folder"),
    "a run that is none": (line("predict", "--ckpt_path", "{bad}/empty"), 1, "no whole checkpoint in its folder"),
    "no run yet": (
        predict("--trainer.default_root_dir", "{bad}/new", "--ckpt_path", "last"), 1, "/new: no such checkpoint file or"
    ),
    "nothing to validate": (line("validate", "--ckpt_path", "{run}"), 1, "no validation images: set .*num_val"),
    # data
    "missing folder": (few("--data.root", "nowhere"), 1, r"nowhere does not exist: set --data\.root"),
    "empty folder": (few("--data.root", "{bad}/empty"), 1, r"/empty holds no images"),
    "more shots than images": (
        few("--data.root", "{shots}", "--data.shots", "6"), 1, r"--data\.shots is 6, but .* holds 5: .* at most 5"
    ),
    # converting
    "convert nothing": (line("convert"), 2, "source and output must be given"),
    "convert to what": (line("convert", "{run}", "x.pt"), 1, r"x\.pt: name the file to write with the ending .saf"),
    "convert what is not there": (line("convert", "no.pt", "x.safetensors"), 1, "no.pt: no such checkpoint file"),
    "convert another network": (
        line("convert", "{bad}/plain.ckpt", "x.safetensors"), 1, "not a guided-diffusion or improved-diffusion network"
    ),
    "convert with an unknown option": (line("convert", "a", "b", "--weigths", "ema"), 2, r"did you mean --weights\?"),
}  # fmt: skip

CHECKPOINTS = {
    "torn.ckpt": r"torn\.ckpt: truncated or not a checkpoint",
    "bomb.ckpt": r"bomb\.ckpt: not a (checkpoint of a run|guided-diffusion .* whole object)",
    "plain.ckpt": r"plain\.ckpt: not a guided-diffusion .* network, but .*1 unknown keys \(weights\)",
    "foreign.ckpt": r"foreign\.ckpt: not a guided-diffusion .* network, but a checkpoint of another program",
    "weights.pt": r"weights\.pt: truncated or not a checkpoint",
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake(tenshot: tiny.Run, bad: Path, trained: Path, shots: Path, mistake: str):
    words, status, message = MISTAKES[mistake]
    tiny.assert_one_line(tenshot(*words(bad, trained, shots)), status, message)


@pytest.mark.parametrize(
    ("command", "name"), [("fit", "torn.ckpt"), ("fit", "bomb.ckpt"), *(("predict", name) for name in CHECKPOINTS)]
)
def test_a_checkpoint_that_is_none(tenshot: tiny.Run, bad: Path, tmp_path: Path, command: str, name: str):
    words = [command, "--config", bad / "good.yaml", "--trainer.default_root_dir", tmp_path / "out"]
    tiny.assert_one_line(tenshot(*words, "--ckpt_path", bad / name), 1, CHECKPOINTS[name])
    assert not (bad / "fuse").exists()
    assert not (tmp_path / "out" / "images").exists()


@pytest.mark.parametrize("command", ["fit", "predict"])
def test_a_checkpoint_of_another_network(tenshot: tiny.Run, bad: Path, trained: Path, tmp_path: Path, command: str):
    words = [command, "--config", bad / "good.yaml", "--ckpt_path", trained, "--trainer.default_root_dir"]
    tiny.assert_one_line(
        tenshot(*words, tmp_path / "first", "--model.unet.channel_mult", "[1,2,2]"),
        1,
        r"step=00000004\.ckpt: a checkpoint of another network, with unet\.channel_mult \(1.*\) \(here \(1.*2.*2.*\)\)",
    )
    # the shapes of the weights would fit
    tiny.assert_one_line(
        tenshot(*words, tmp_path / "second", "--model.unet.attention_order", "new"),
        1,
        r"unet\.attention_order legacy \(here new\)",
    )


def test_a_pickle_with_code_as_initial_weights(tenshot: tiny.Run, bad: Path):
    words = ["fit", "--config", bad / "good.yaml", "--trainer.default_root_dir", bad / "out"]
    outcome = tenshot(*words, "--model.init_from", bad / "bomb.ckpt", "--model.allow_pickle", "true")
    tiny.assert_one_line(outcome, 1, r"bomb\.ckpt: ")
    assert not (bad / "fuse").exists()


def test_code_in_a_checkpoint_is_never_run(tenshot: tiny.Run, run_copy: Path, tmp_path: Path):
    """However it is asked for."""
    path, fuse = run_copy / "checkpoints" / "step=00000004.ckpt", tmp_path / "fuse"
    content = torch.load(path, weights_only=True)
    torch.save(content | {"note": tiny.Bomb(fuse)}, path)
    words = ["predict", "--ckpt_path", run_copy, "--images.count", "1"]
    outcome = tenshot(*words, "--weights_only", "false")
    assert outcome.status == 0, outcome.err
    assert "weights_only is no longer an option" in outcome.log
    assert (run_copy / "images" / "000000.png").exists()
    torch.save(content | {"callbacks": {"mine": tiny.Bomb(fuse)}}, path)
    for option in ([], ["--weights_only=false"]):
        refused = tenshot(*words, *option)
        tiny.assert_one_line(refused, 1, r"its callbacks hold an object of a class that is not read, and nothing of it")
        assert ("weights_only is no longer an option" in refused.log) == bool(option)
    assert not fuse.exists()


def test_configurations_with_options_that_are_gone_still_load(tenshot: tiny.Run, tmp_path: Path):
    old = tiny.config_file(tmp_path, {"model": {"init_args": {"allow_pickle": True}}, "trainer": {"max_steps": 1}})
    outcome = tenshot("fit", "--config", old, "--trainer.default_root_dir", tmp_path / "run")
    assert outcome.status == 0, outcome.err
    assert "allow_pickle is no longer an option: nothing in a file is run" in outcome.log
    assert "allow_pickle" not in (tmp_path / "run" / "config.yaml").read_text()


# Mistakes that show only later


def test_tracebacks_of_mistakes_are_there_for_the_asking(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TENSHOT_DEBUG", "1")
    with pytest.raises(ValueError, match="unknown command"):
        main(["fitt"])


def test_a_strategy_whose_checkpoints_a_kill_can_tear(tenshot: tiny.Run, tmp_path: Path):
    plain = {"trainer": {"strategy": {"class_path": "lightning.pytorch.strategies.ModelParallelStrategy"}}}
    words = ["--config", tiny.config_file(tmp_path, plain), "--trainer.default_root_dir", tmp_path / "run"]
    complaint = tenshot("fit", *words).complaint
    assert complaint.startswith(
        "--trainer.strategy ModelParallelStrategy writes checkpoints that a kill can tear: take "
    )
    assert not (tmp_path / "run" / "config.yaml").exists()


@pytest.mark.parametrize(
    ("trainer", "model", "complaint"),
    [
        ({}, {"compile": True}, r"--model\.compile true does not go with sharded weights"),
        ({"precision": "16-mixed"}, {}, r"--trainer: .*16-mixed"),
    ],
    ids=["compiled", "16-mixed"],
)
def test_what_cannot_be_sharded(
    tenshot: tiny.Run, tmp_path: Path, trainer: dict[str, Any], model: dict[str, Any], complaint: str
):
    shared = {"devices": 1, "strategy": {"class_path": "tenshot.callbacks.FullySharded"}}
    config = tiny.config_file(tmp_path, {"trainer": shared | trainer, "model": {"init_args": model}})
    tiny.assert_one_line(
        tenshot("fit", "--config", config, "--trainer.default_root_dir", tmp_path / "run"), 1, complaint
    )
