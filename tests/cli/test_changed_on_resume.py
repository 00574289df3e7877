"""What is changed on resume takes effect, is said, and is kept in the run; or it is refused."""

import csv
import shutil
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
import yaml

from tenshot.reports.cost import cost_of
from tenshot.reports.run import read_run
from tenshot.run.abandoned import set_aside


def content(run: Path, step: int) -> dict[str, Any]:
    return torch.load(run / "checkpoints" / f"step={step:08d}.ckpt", weights_only=True)


def said(outcome: tiny.Outcome) -> list[str]:
    assert outcome.status == 0, outcome.err
    return [line.partition("resume: ")[2] for line in outcome.log.splitlines() if "resume: " in line]


def option(path: Path, *names: str) -> Any:
    value = yaml.safe_load(path.read_text())
    for name in names:
        value = value[name]
    return value


@pytest.fixture
def resume(tenshot: tiny.Run, run_copy: Path) -> Any:
    """Go on with the run copied from ``trained``, from its last checkpoint if no other is named."""

    def go_on(steps: int, *words: str | Path) -> tiny.Outcome:
        path = [] if "--ckpt_path" in words else ["--ckpt_path", "last"]
        own = ["--config", run_copy / "config.yaml", "--trainer.default_root_dir", run_copy]
        often = ["--checkpoint.every_n_steps", "1", "--checkpoint.keep", "9"]
        return tenshot("fit", *own, "--trainer.max_steps", str(steps), *often, *path, *words)

    return go_on


def test_changes_take_effect_are_said_and_are_kept(resume: Any, run_copy: Path):
    began = (run_copy / "config.yaml").stat().st_mtime
    words = ["--model.optimizer.lr", "0.01", "--ema.decay", "0.5", "--data.batch_size", "2", "--data.flip", "false"]
    outcome = resume(5, "--model.optimizer", "AdamW", *words)
    assert {
        "--trainer.max_steps 4 -> 5 from step 4", "--checkpoint.every_n_steps 2 -> 1 from step 4",
        "--ema.decay 0.999 -> 0.5 from step 4", "--data.batch_size 4 -> 2 from step 4",
        "--data.flip True -> False from step 4", "--model.optimizer.lr 0.0001 -> 0.01 from step 4",
    } <= set(said(outcome))  # fmt: skip
    assert content(run_copy, 5)["optimizer_states"][0]["param_groups"][0]["lr"] == 0.01
    assert content(run_copy, 5)["optimizer_states"][0]["state"][0]["step"] == 5
    earlier = run_copy / "config.until_step=00000004.yaml"
    assert option(earlier, "ema", "decay") == 0.999
    assert earlier.stat().st_mtime == began
    assert option(run_copy / "config.yaml", "ema", "decay") == 0.5
    assert "ckpt_path" not in yaml.safe_load((run_copy / "config.yaml").read_text())
    assert read_run(run_copy).config["data.batch_size"] == 2

    assert not said(resume(5))  # the file says all of it now
    assert [path.name for path in run_copy.glob("config.until*")] == [earlier.name]


def test_what_is_null_against_its_default_is_no_change(tenshot: tiny.Run, tmp_path: Path):
    """Also of a run whose file leaves it out, as older versions did."""
    null = {"trainer": {"check_val_every_n_epoch": None, "val_check_interval": 2}, "checkpoint": {"every_n_steps": 1}}
    config, run = tiny.config_file(tmp_path, null), tmp_path / "run"
    words = ["fit", "--config", config, "--trainer.default_root_dir", run]
    assert tenshot(*words).status == 0
    written = run / "config.yaml"
    assert "  check_val_every_n_epoch: null\n" in written.read_text()
    for _ in range(2):
        (run / "checkpoints" / "step=00000002.ckpt").unlink()
        assert not said(tenshot(*words, "--ckpt_path", "last"))
        assert sorted(path.name for path in (run / "checkpoints").iterdir()) == [
            "step=00000001.ckpt",
            "step=00000002.ckpt",
        ]
        written.write_text("".join(line for line in written.open() if not line.endswith(": null\n")))


@pytest.mark.parametrize("gone", ["allow_pickle: false\n    weights_only: true", "never_heard_of: 3"])
def test_what_is_no_option_any_more_is_no_change(tenshot: tiny.Run, run_copy: Path, gone: str):
    """Also where another option of the run was spelled otherwise; what the user changes is said as ever."""
    config = run_copy / "config.yaml"
    shutil.copy(config, run_copy.with_name("recipe.yaml"))
    older = config.read_text().replace("  init_args:\n", f"  init_args:\n    {gone}\n", 1)
    assert "steps: ddim2\n" in older
    config.write_text(older.replace("steps: ddim2\n", "steps: '2'\n"))
    words = ["fit", "--config", run_copy.with_name("recipe.yaml"), "--ckpt_path", run_copy, "--trainer.max_steps", "5"]
    outcome = tenshot(*words, "--model.sampler.steps", "2", "--ema.decay", "0.5")
    assert {line.split()[0] for line in said(outcome)} == {"--ema.decay", "--trainer.max_steps"}


def test_an_older_checkpoint_has_the_configuration_it_was_made_with(resume: Any, run_copy: Path):
    """Lowered once and once more: each time compared with what made the checkpoint."""
    shutil.copy(run_copy / "config.yaml", run_copy.with_name("recipe.yaml"))
    assert "--ema.decay 0.999 -> 0.5 from step 4" in said(resume(6, "--ema.decay", "0.5"))
    assert "--ema.decay 0.999 -> 0.25 from step 4" in said(
        resume(5, "--ema.decay", "0.25", "--ckpt_path", run_copy / "checkpoints" / "step=00000004.ckpt")
    )
    aside = run_copy / "checkpoints" / "abandoned-after-step=00000004"
    assert option(aside / "config.yaml", "ema", "decay") == 0.5
    assert [path.name for path in run_copy.glob("config.until*")] == ["config.until_step=00000004.yaml"]
    assert option(run_copy / "config.until_step=00000004.yaml", "ema", "decay") == 0.999


def test_the_cost_of_a_run_counts_from_its_first_configuration(resume: Any, run_copy: Path):
    shutil.rmtree(run_copy / "logs", ignore_errors=True)
    resume(5, "--ema.decay", "0.5")
    shutil.rmtree(run_copy / "logs", ignore_errors=True)
    begun = (run_copy / "config.until_step=00000004.yaml").stat().st_mtime
    hours = cost_of(read_run(run_copy)).hours
    last = (run_copy / "checkpoints" / "step=00000005.ckpt").stat().st_mtime
    assert hours == pytest.approx((last - begun) / 3600)


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--model", "DDPMPA", "--model.init_from", "x.ckpt"], "of a run of DDPM, --model is DDPMPA: go on with DDPM"),
        (["--model.init_from", "x.ckpt"], "--model.init_from was null when the run began, here it is x.ckpt"),
        (
            ["--model.diffusion.num_steps", "70"],
            "trained with diffusion.num_steps 1000 (here 70): give the configuration",
        ),
        (["--model.unet.channels", "64"], "a checkpoint of another network, with unet.channels 32 (here 64)"),
    ],
)
def test_what_cannot_change_is_refused(
    resume: Any, tenshot: tiny.Run, run_copy: Path, words: list[str], complaint: str
):
    before = sorted(path.name for path in run_copy.rglob("*"))
    assert complaint in resume(6, *words, "--ckpt_path", run_copy / "checkpoints" / "step=00000002.ckpt").complaint
    assert sorted(path.name for path in run_copy.rglob("*")) == before
    copied = Path(shutil.copy(run_copy / "checkpoints" / "step=00000004.ckpt", run_copy.with_name("copied.ckpt")))
    if "DDPMPA" in words:  # of no run, it says itself what it is of
        words = ["fit", "--config", run_copy / "config.yaml", *words, "--ckpt_path", copied, "--trainer.max_steps", "5"]
        assert "of a run of DDPM, not of DDPMPA: give the configuration of its run" in tenshot(*words).complaint


def test_timesteps_may_be_drawn_by_their_losses_from_now_on(resume: Any, run_copy: Path):
    assert "--model.timesteps uniform -> loss_aware from step 4" in said(resume(5, "--model.timesteps", "loss_aware"))
    assert content(run_copy, 5)["timesteps"]["counts"].sum() == 4  # of one batch
    assert not said(resume(6))[1:]


# One line of history


def steps_of(log: Path) -> list[int]:
    return [int(row["step"]) for row in csv.DictReader(log.open())]


def test_what_came_after_an_older_checkpoint_is_set_aside(resume: Any, run_copy: Path):
    every = ["--trainer.log_every_n_steps", "1", "--grid.every_n_steps", "1", "--grid.count", "1"]
    every += ["--model.preview_sampler.steps", "2"]
    resume(6, *every)
    (run_copy / "evaluations").mkdir()
    for step in (2, 3):
        (run_copy / "evaluations" / f"step={step:08d}.json").write_text("{}")
    log, checkpoints = run_copy / "logs" / "version_0" / "metrics.csv", run_copy / "checkpoints"
    first = steps_of(log)
    outcome = resume(4, *every, "--ckpt_path", checkpoints / "step=00000002.ckpt")
    aside = checkpoints / "abandoned-after-step=00000002"
    assert f"is set aside in {aside}" in outcome.log
    assert "going on from step 2: what came after it (3 checkpoints" in outcome.log
    assert sorted(path.name for path in aside.glob("*.ckpt")) == [f"step={s:08d}.ckpt" for s in (4, 5, 6)]
    assert sorted(path.name for path in checkpoints.glob("*.ckpt")) == [f"step={s:08d}.ckpt" for s in (2, 3, 4)]
    assert sorted(path.name for path in (run_copy / "evaluations").iterdir()) == ["step=00000002.json"]
    assert [path.name for path in (aside / "evaluations").iterdir()] == ["step=00000003.json"]
    assert sorted(path.name for path in (aside / "samples").iterdir()) == ["step=00000005.png", "step=00000006.png"]
    assert steps_of(aside / "metrics.csv") == [step for step in first if step >= 2]
    assert steps_of(log) == [step for step in first if step < 2] + [2, 3]

    last = resume(6, *every)
    assert "Restoring states from the checkpoint path at " + str(checkpoints / "step=00000004.ckpt") in last.log
    assert "set aside" not in last.log
    assert steps_of(log) == [step for step in first if step < 2] + [2, 3, 4, 5]


def test_what_was_set_aside_goes_on_in_a_folder_of_its_own(resume: Any, tenshot: tiny.Run, run_copy: Path):
    resume(3, "--ckpt_path", run_copy / "checkpoints" / "step=00000002.ckpt")
    aside = run_copy / "checkpoints" / "abandoned-after-step=00000002" / "step=00000004.ckpt"
    words = ["fit", "--config", run_copy / "config.yaml", "--ckpt_path", aside, "--trainer.max_steps", "5"]
    assert tenshot(*words).status == 0
    assert not (run_copy / "checkpoints" / "step=00000005.ckpt").exists()


def run_by_hand(folder: Path) -> Path:
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "config.yaml").write_text("ema: {decay: 0.5}\n")
    for name in ("step=00000002", "step=00000004", "best"):
        step = int(name.rpartition("=")[2]) if "=" in name else 4
        torch.save({"global_step": step}, folder / "checkpoints" / f"{name}.ckpt")
    return folder


def test_the_best_checkpoint_goes_with_its_branch_and_nothing_is_written_over(tmp_path: Path):
    run = run_by_hand(tmp_path / "run")
    assert set_aside(run, 4, changed=False) is None
    for number, name in enumerate(("abandoned-after-step=00000002", "abandoned-after-step=00000002-2")):
        words = set_aside(run, 2, changed=False) or ""
        assert words.endswith(f"({2 - number} checkpoints) is set aside in {run / 'checkpoints' / name}")
        torch.save({"global_step": 4}, run / "checkpoints" / "step=00000004.ckpt")
    assert not (run / "checkpoints" / "best.ckpt").exists()


def test_rows_after_the_checkpoint_are_kept_where_others_will_be_logged(tmp_path: Path):
    """A killed run that goes on as it was logs the same ones again; another one does not."""
    run = run_by_hand(tmp_path / "run")
    log = run / "logs" / "version_0" / "metrics.csv"
    log.parent.mkdir(parents=True)
    log.write_text("step,train/loss\n" + "".join(f"{step},1.0\n" for step in range(7)))
    assert set_aside(run, 4, changed=False) is None
    assert steps_of(log) == list(range(7))
    assert "3 rows of the log" in (set_aside(run, 4, changed=True) or "")
    assert steps_of(log) == [0, 1, 2, 3]
    assert steps_of(run / "checkpoints" / "abandoned-after-step=00000004" / "metrics.csv") == [4, 5, 6]
