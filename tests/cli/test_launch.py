"""Launch mistakes: one line before anything is started, and no process that outlives the first."""

import os
import select
import signal
import socket
import subprocess
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import tiny
from lightning.pytorch.plugins.environments import LightningEnvironment, TorchElasticEnvironment
from lightning.pytorch.strategies.launchers import _SubprocessScriptLauncher

from tenshot.cli.launch import Slurm, check_launch
from tenshot.errors import InputError
from tenshot.run import launched

STEP = {"SLURM_STEP_ID": "0", "SLURM_JOB_ID": "7", "SLURM_PROCID": "0"}


@pytest.fixture(autouse=True)
def _no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("SLURM_") or name in ("WORLD_SIZE", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK", "MASTER_PORT"):
            monkeypatch.delenv(name)


def check(environment: Any, devices: int, nodes: int = 1) -> None:
    connector = SimpleNamespace(cluster_environment=environment)
    check_launch(SimpleNamespace(num_devices=devices, num_nodes=nodes, _accelerator_connector=connector))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("variables", "devices", "nodes", "told"),
    [
        ({"SLURM_NTASKS": "1", "SLURM_JOB_ID": "7"}, 2, 1, "srun did not start this process"),
        ({"SLURM_NTASKS": "2", "SLURM_JOB_ID": "7", "SLURM_PROCID": "0"}, 2, 1, "srun --ntasks-per-node=2 --nodes=1"),
        ({"SLURM_NTASKS": "2", **STEP}, 1, 1, "srun started 2 tasks, but --trainer.devices 1 x --trainer.num_nodes 1"),
        ({"SLURM_NTASKS": "2", **STEP}, 2, 2, "srun started 2 tasks, .* makes 4"),
        ({"SLURM_NTASKS": "1", **STEP}, 2, 1, "srun started 1 tasks"),
        ({"SLURM_NTASKS": "4", "SLURM_STEP_NUM_TASKS": "1", **STEP}, 4, 1, "srun started 1 tasks"),
        ({"SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "1", "SLURM_NNODES": "2", **STEP}, 2, 1, "devices=2"),
        ({"SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "2", "SLURM_NNODES": "1", **STEP}, 2, 1, None),
        ({"SLURM_NTASKS": "2", **STEP}, 2, 1, None),
        ({"SLURM_NTASKS": "2", "SLURM_JOB_ID": "7"}, 1, 1, None),  # one process in a larger allocation
    ],
)
def test_tasks_of_slurm(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], devices: int, nodes: int, told: str | None
):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    if told is None:
        check(Slurm(), devices, nodes)
        return
    with pytest.raises(InputError, match=told) as raised:
        check(Slurm(), devices, nodes)
    assert "\n" not in str(raised.value)


def test_the_command_line_asks(tenshot: tiny.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SLURM_NTASKS", "2")
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    words = ["--config", tiny.config_file(tmp_path), "--trainer.default_root_dir", tmp_path / "run"]
    outcome = tenshot("fit", *words, "--trainer.devices", "2", "--trainer.strategy", "ddp")
    assert "srun did not start this process" in outcome.complaint
    assert not (tmp_path / "run" / "checkpoints").exists()
    monkeypatch.delenv("SLURM_NTASKS")
    monkeypatch.setattr("lightning.fabric.accelerators.cuda.num_cuda_devices", lambda: 1)
    monkeypatch.setattr("lightning.pytorch.accelerators.cuda.num_cuda_devices", lambda: 1)
    monkeypatch.setattr("torch.cuda.set_device", lambda device: None)
    outcome = tenshot("fit", *words, "--trainer.devices", "2", "--trainer.accelerator", "gpu")
    assert outcome.status == 1
    assert outcome.complaint.startswith("--trainer: ")


def test_processes_of_torchrun(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    check(TorchElasticEnvironment(), 2)
    with pytest.raises(InputError, match=r"torchrun started 2 processes, but --trainer.devices 1 x"):
        check(TorchElasticEnvironment(), 1)


def test_nodes_that_nobody_numbers(monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(InputError, match=r"--trainer.num_nodes is 2, but nothing tells which of the nodes this is"):
        check(LightningEnvironment(), 1, 2)
    monkeypatch.setenv("NODE_RANK", "1")
    check(LightningEnvironment(), 1, 2)


@pytest.mark.parametrize("listens", [True, False])
def test_a_port_that_is_taken(monkeypatch: pytest.MonkeyPatch, listens: bool):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        if listens:
            other.listen()
        monkeypatch.setenv("MASTER_PORT", str(other.getsockname()[1]))
        with pytest.raises(InputError, match=r"MASTER_PORT [0-9]+ \(another program has it\): set it to a free port"):
            check(LightningEnvironment(), 2)
        check(LightningEnvironment(), 1)
        monkeypatch.setenv("LOCAL_RANK", "1")  # of a process that was started: the first one has the port
        check(LightningEnvironment(), 2)
        monkeypatch.delenv("LOCAL_RANK")
    check(LightningEnvironment(), 2)
    monkeypatch.setenv("MASTER_PORT", "many")
    with pytest.raises(InputError, match="MASTER_PORT is 'many'"):
        check(LightningEnvironment(), 2)


def test_no_process_outlives_an_error(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(launched, "AFTER_ERROR", 0.1)
    launcher = _SubprocessScriptLauncher(LightningEnvironment(), 2, 1)
    trainer: Any = SimpleNamespace(strategy=SimpleNamespace(launcher=launcher))

    def fails() -> None:
        launcher.procs = [subprocess.Popen(["sleep", "100"])]
        assert os.environ[launched.LAUNCHER] == str(os.getpid())
        raise RuntimeError("the first rank")

    with pytest.raises(RuntimeError, match="the first rank"), launched.none_left_behind(trainer):
        fails()
    assert launcher.procs[0].wait(10) == -signal.SIGKILL
    assert launched.LAUNCHER not in os.environ


def test_a_process_ends_soon_after_the_one_that_started_it_is_killed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(launched, "AFTER_ERROR", 0.1)
    monkeypatch.setattr(launched, "LOOKS_EVERY", 0.1)
    read, write = os.pipe()
    first = os.fork()
    if first == 0:
        os.environ[launched.LAUNCHER], os.environ["LOCAL_RANK"] = str(os.getpid()), "1"
        if os.fork() == 0:
            launched.end_with_launcher()
            os.write(write, b"ready")
            time.sleep(100)
            os._exit(0)
        time.sleep(100)
        os._exit(0)
    os.close(write)
    assert os.read(read, 5) == b"ready"
    os.kill(first, signal.SIGKILL)
    os.waitpid(first, 0)
    assert select.select([read], [], [], 60)[0]  # its end is closed: the second process is gone
    assert os.read(read, 1) == b""
    os.close(read)
