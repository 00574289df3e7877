"""SIGKILL between and during checkpoints: ``--ckpt_path last`` ends in the same bits as a run never killed.

With two arguments, this file is the run that dies: how, and its command line's configuration.
"""

import csv
import io
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
import tiny
import tiny_piti
import tiny_upsampler
import torch
from ranks import Started
from tiny_stages import saved

from tenshot.callbacks import StepSeed
from tenshot.checkpoints.kind import plain_fields
from tenshot.cli import main
from tenshot.lightning_modules.adversarial import AdversarialModule

CHANGES = {
    "model": {"init_args": {"unet": {"dropout": 0.3}}},
    "trainer": {"max_steps": 7, "accumulate_grad_batches": 2, "log_every_n_steps": 1},
    "checkpoint": {"every_n_steps": 2},
}


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_in_step(step: int) -> None:
    """Between two checkpoints, and between two micro-batches."""
    on_start = StepSeed.on_train_batch_start

    def start(self: StepSeed, trainer: Any, module: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step == step and batch_idx % 2 == 1:
            trainer.strategy.checkpoint_io.join()  # the one of the step before
            die()
        on_start(self, trainer, module, batch, batch_idx)

    StepSeed.on_train_batch_start = start  # type: ignore[method-assign]


def die_writing(step: int) -> None:
    """With half of a checkpoint on the disk."""
    save = torch.save

    def half(content: Any, file: Any) -> None:
        if content["global_step"] != step:
            save(content, file)
            return
        whole = io.BytesIO()
        save(content, whole)
        file.write(whole.getvalue()[: len(whole.getvalue()) // 2])
        file.flush()
        die()

    torch.save = half


def die_between_players(step: int) -> None:
    """After the discriminator's step, before the network's."""
    optimise = AdversarialModule.optimise

    def killed(self: AdversarialModule, player: Any, *rest: Any, **options: Any) -> Any:
        if player == "generator" and self.trainer.global_step == step:
            self.trainer.strategy.checkpoint_io.join()  # type: ignore[attr-defined]
            die()
        return optimise(self, player, *rest, **options)

    AdversarialModule.optimise = killed  # type: ignore[method-assign]


pytestmark = pytest.mark.slow
DEATHS = {"between": (die_in_step, 5), "during": (die_writing, 6)}  # both leave steps 2 and 4
OFTEN = ["--trainer.max_steps", "4", "--checkpoint.every_n_steps", "2", "--grid.every_n_steps", "0"]
OFTEN += ["--trainer.limit_val_batches", "0", "--trainer.log_every_n_steps", "1"]
OF_CONDITIONS = {"stage 1": (die_in_step, 3), "stage 2": (die_in_step, 3), "upsampler": (die_between_players, 3)}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Three runs of one configuration: two killed, side by side, and one that was let finish."""
    folder = tmp_path_factory.mktemp("killed")
    config = tiny.config_file(folder, CHANGES)
    killed = [Started(__file__, how, config, folder / how) for how in DEATHS]
    main(["fit", "--config", config, "--trainer.default_root_dir", str(folder / "whole")])
    for process in killed:
        assert process.wait(timeout=120) == -signal.SIGKILL
    return {name: folder / name for name in (*DEATHS, "whole")} | {"config": Path(config)}


def names(run: Path) -> list[str]:
    return sorted(path.name for path in (run / "checkpoints").iterdir())


def resume(runs: dict[str, Path], run: Path) -> None:
    main(
        ["fit", "--config", str(runs["config"]), "--trainer.default_root_dir", str(run), "--ckpt_path", "last"]
    )  # fmt: skip


def assert_ended_alike(runs: dict[str, Path], run: Path) -> None:
    ours, theirs = (
        torch.load(folder / "checkpoints" / "step=00000007.ckpt", weights_only=True) for folder in (run, runs["whole"])
    )
    for part in ("state_dict", "optimizer_states", "ema", "global_step"):
        tiny.assert_same(ours[part], theirs[part], part)
    assert logged(run) == logged(runs["whole"])
    assert [row["step"] for row in logged(run)] == [str(step) for step in range(7)]


def logged(run: Path) -> list[dict[str, str]]:
    """The run's log without speeds, which differ between attempts."""
    with open(run / "logs" / "version_0" / "metrics.csv", newline="") as file:
        return [
            {name: cell for name, cell in row.items() if not name.startswith("speed/")} for row in csv.DictReader(file)
        ]


def copy(run: Path, to: Path) -> Path:
    return Path(shutil.copytree(run, to / "run"))


def test_killed_between_checkpoints(runs: dict[str, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture):
    assert names(runs["between"]) == ["step=00000002.ckpt", "step=00000004.ckpt"]
    run = copy(runs["between"], tmp_path)
    resume(runs, run)

    assert "step=00000004.ckpt" in caplog.text
    assert names(run) == ["step=00000006.ckpt", "step=00000007.ckpt"]
    assert_ended_alike(runs, run)


def test_killed_while_a_checkpoint_was_written(runs: dict[str, Path], tmp_path: Path):
    torn = ".step=00000006.ckpt.partial"
    assert names(runs["during"]) == [torn, "step=00000002.ckpt", "step=00000004.ckpt"]
    run = copy(runs["during"], tmp_path)
    size = (run / "checkpoints" / torn).stat().st_size
    resume(runs, run)

    assert size > 100_000
    assert names(run) == ["step=00000006.ckpt", "step=00000007.ckpt"]  # the torn one is replaced on the way
    assert_ended_alike(runs, run)


def test_a_checkpoint_that_a_failing_disk_truncated_is_passed_over(
    runs: dict[str, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    run = copy(runs["between"], tmp_path)
    newest = run / "checkpoints" / "step=00000004.ckpt"
    newest.write_bytes(newest.read_bytes()[:-1000])
    resume(runs, run)

    assert "step=00000002.ckpt" in caplog.text
    assert_ended_alike(runs, run)


def test_killed_before_the_first_checkpoint(runs: dict[str, Path], tmp_path: Path):
    run = copy(runs["between"], tmp_path)
    shutil.rmtree(run / "checkpoints")
    resume(runs, run)

    assert not (tmp_path / "run-2").exists()
    assert_ended_alike(runs, run)


@pytest.mark.parametrize("which", OF_CONDITIONS)
def test_methods_of_conditions_killed_between_checkpoints(tmp_path: Path, which: str):
    """Also between the steps of the two players of PITI's upsampler."""
    start = tiny.randomised(tiny_piti.piti(piti=tiny_piti.TINY))
    options: dict[str, Any] = {"init_from": saved(tmp_path, start), "stage": 1, "timesteps": "loss_aware"}
    if which == "stage 2":
        options |= {"stage": 2, "condition_drop": 0.5}
    if which == "upsampler":
        options = {"piti": plain_fields(tiny_upsampler.CONFIG), "low_res_size": 8, "losses_from": 0}
        options |= {"perceptual": {"weight": 0}, "adversary": {"channels": 4, "layers": 2}}
    method = "PITIUpsampler" if which == "upsampler" else "PITI"
    config = tiny_piti.config(tmp_path, method, **options)
    killed = Started(__file__, which, config, tmp_path / "killed")
    main(["fit", "--config", config, *OFTEN, "--trainer.default_root_dir", str(tmp_path / "whole")])
    assert killed.wait(timeout=120) == -signal.SIGKILL
    assert names(tmp_path / "killed") == ["step=00000002.ckpt"]
    resumed = ["--trainer.default_root_dir", str(tmp_path / "killed"), "--ckpt_path", "last"]
    main(["fit", "--config", config, *OFTEN, *resumed])
    ours, theirs = (
        torch.load(tmp_path / name / "checkpoints/step=00000004.ckpt", weights_only=True)
        for name in ("killed", "whole")
    )
    for part in ("state_dict", "optimizer_states", "ema", "global_step", "timesteps", "tenshot"):
        tiny.assert_same(ours[part], theirs[part], part)
    assert logged(tmp_path / "killed") == logged(tmp_path / "whole")


if __name__ == "__main__":
    how, config, folder = sys.argv[1:]
    torch.set_num_threads(1)
    ways: dict[str, tuple[Any, int]] = DEATHS | OF_CONDITIONS
    way, when = ways[how]
    way(when)
    often = OFTEN if how in OF_CONDITIONS else []
    main(["fit", "--config", config, *often, "--trainer.default_root_dir", folder])
