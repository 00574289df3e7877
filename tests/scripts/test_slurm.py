"""Real jobs on a real SLURM: preempted in the middle, requeued, and the same numbers at the end as without SLURM.

The job scripts' configuration names ``Holds`` in this file, by which a run waits in the middle until the signal comes.
"""

import csv
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
import yaml
from lightning.pytorch import Callback, LightningModule
from ranks import run_ranks
from slurm_cluster import Cluster, missing, wait_for

from tenshot.callbacks import Preemption
from tenshot.cli import main

REPOSITORY = Path(__file__).parents[2]
SCRIPTS = sorted((REPOSITORY / "scripts" / "slurm").glob("*.sbatch"))
STEPS, HELD = 6, 3

reason = missing()
needs_slurm = pytest.mark.skipif(reason is not None, reason=str(reason))


class Holds(Callback):
    """In a job's first attempt, wait before a step until the signal has come."""

    def __init__(self, step: int, reached: str) -> None:
        self.step, self.reached = step, Path(reached)

    def on_train_batch_start(self, trainer: Any, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if trainer.global_step != self.step or os.environ.get("SLURM_RESTART_COUNT", "0") != "0":
            return
        self.reached.with_suffix(f".{trainer.global_rank}").touch()
        [preemption] = [callback for callback in trainer.callbacks if isinstance(callback, Preemption)]
        wait_for("no signal", lambda: preemption._signal is not None, 120)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path_factory.mktemp("slurm"))
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


@needs_slurm
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_slurm_accepts_the_job_scripts(cluster: Cluster, script: Path):
    array = ["--array=0-11%8"] if script.name == "array.sbatch" else []
    assert "to start at" in cluster.call("sbatch", "--test-only", *array, script)


def test_there_are_job_scripts():
    assert [path.name for path in SCRIPTS] == ["array.sbatch", "many_nodes.sbatch", "one_node.sbatch"]


def test_an_array_takes_each_combination_once(tmp_path: Path):
    """With a stand-in for what the scripts share, which prints its words."""
    (tmp_path / "scripts" / "slurm").mkdir(parents=True)
    (tmp_path / "scripts" / "slurm" / "run.sh").write_text('echo "$@"\n')
    combinations = os.environ | {"METHODS": "ddpm/a cdc/b", "DOMAINS": "x data/y", "SEEDS": "0 1 2"}

    def task(number: int) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", str(REPOSITORY / "scripts" / "slurm" / "array.sbatch"), "--more", "1"], cwd=tmp_path, text=True,
            env=combinations | {"SLURM_ARRAY_TASK_ID": str(number)}, capture_output=True,
        )  # fmt: skip

    words = [task(number).stdout.split() for number in range(12)]
    assert len({tuple(line) for line in words}) == 12
    assert words[11] == [
        "--config", "configs/cdc/b.yaml", "--more", "1", "--data.domain", "data/y", "--seed_everything", "2",
        "--trainer.default_root_dir", "runs/array/cdc/b/y/seed=2",
    ]  # fmt: skip
    beyond = task(12)
    assert beyond.returncode == 2
    assert "--array=0-11" in beyond.stderr


def configuration(folder: Path) -> Path:
    source = tiny.weights_file(folder / "source.safetensors", tiny.randomised(tiny.ddpm()))
    return tiny.write_yaml(
        folder / "config.yaml",
        {
            "model": {
                "class_path": "DDPMPA",
                "init_args": {"init_from": str(source), "preview_sampler": {"steps": "2"}},
            },
            "data": {
                "class_path": "SyntheticFaces",
                "init_args": {"domain": "sunglasses", "shots": 5, "image_size": 16, "batch_size": 4, "num_val": 0},
            },
            "trainer": {
                "max_steps": STEPS, "accelerator": "cpu", "strategy": "ddp", "log_every_n_steps": 2,
                "enable_progress_bar": False, "enable_model_summary": False,
            },
            "grid": {"every_n_steps": 3, "count": 2, "columns": 2},
        },
    )  # fmt: skip


def submitted(cluster: Cluster, folder: Path, *words: str | Path) -> str:
    """A job of two tasks by the script that is shipped; its number."""
    return cluster.call(
        "sbatch", "--parsable", "--ntasks-per-node=2", "--gres=none", "--cpus-per-task=1", "--time=30",
        f"--chdir={REPOSITORY}", f"--output={folder / 'requeued.out'}",
        REPOSITORY / "scripts" / "slurm" / "one_node.sbatch",
        "--config", folder / "config.yaml", "--trainer.default_root_dir", folder / "requeued", *words,
    ).strip()  # fmt: skip


def ended(cluster: Cluster, job: str) -> bool:
    state = cluster.call("scontrol", "show", "job", job)
    return "JobState=COMPLETED" in state or "JobState=FAILED" in state or "JobState=TIMEOUT" in state


def rows(run: Path) -> list[dict[str, str]]:
    """The log, without speeds, and the means by timestep bin: where no image was, a row repeats the last."""
    [path] = run.glob("logs/*/metrics.csv")
    with open(path, newline="") as file:
        return [
            {name: value for name, value in row.items() if not name.startswith("speed/")}
            for row in csv.DictReader(file)
        ]


@needs_slurm
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_requeued_job_ends_as_one_that_was_never_stopped(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    shim = tmp_path / "bin" / "tenshot"
    shim.parent.mkdir()
    shim.write_text(f'#!/bin/bash\nexec {sys.executable} -c "from tenshot.cli import main; main()" "$@"\n')
    shim.chmod(0o755)
    for name, value in {
        "PATH": f"{shim.parent}:{cluster.environment['PATH']}", "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path]),
    }.items():  # fmt: skip
        monkeypatch.setitem(cluster.environment, name, value)
    configuration(tmp_path)
    holds = yaml.safe_dump(
        [{"class_path": "test_slurm.Holds", "init_args": {"step": HELD, "reached": str(tmp_path / "reached")}}],
        default_flow_style=True, width=10_000,
    ).strip()  # fmt: skip

    job = submitted(cluster, tmp_path, "--trainer.callbacks", holds)
    whole = ["--config", tmp_path / "config.yaml", "--trainer.default_root_dir", tmp_path / "whole"]

    def output() -> str:
        path = tmp_path / "requeued.out"
        return path.read_text() if path.exists() else ""

    try:
        wait_for("the middle", lambda: all((tmp_path / f"reached.{rank}").exists() for rank in range(2)), 240)
        cluster.call("scancel", "--signal=USR1", job)
        run_ranks(__file__, "fit", *whole, "--trainer.devices", "2", timeout=400)
        wait_for("the end", lambda: ended(cluster, job), 400)
    except TimeoutError as error:
        state = cluster.call("scontrol", "show", "job", job)
        raise AssertionError(f"{error}: {output()}\n---\n{state}") from None

    log = output()
    assert f"preempted (SIGUSR1): step {HELD + 1} is saved" in log, log
    assert "Traceback" not in log, log
    show = cluster.call("scontrol", "show", "job", job)
    assert "Restarts=1" in show
    assert "JobState=COMPLETED" in show, log
    ours, theirs = (
        torch.load(tmp_path / name / "checkpoints" / f"step={STEPS:08d}.ckpt", weights_only=True)
        for name in ("requeued", "whole")
    )
    for part in ("state_dict", "ema", "optimizer_states", "global_step"):
        tiny.assert_same(ours[part], theirs[part], part)
    assert rows(tmp_path / "requeued") == rows(tmp_path / "whole")
    assert [row["step"] for row in rows(tmp_path / "whole")] == ["1", "3", "5"]
    grids = {name: sorted((tmp_path / name / "samples").iterdir()) for name in ("whole", "requeued")}
    assert [path.name for path in grids["whole"]] == [f"step={step:08d}.png" for step in (3, 6)]
    assert [(path.name, path.read_bytes()) for path in grids["requeued"]] == [
        (path.name, path.read_bytes()) for path in grids["whole"]
    ]
    for name in grids:
        assert not (tmp_path / name / "run.lock").exists()


if __name__ == "__main__":  # run by ``run_ranks``: one rank
    main(sys.argv[1:])
