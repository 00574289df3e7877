"""What several GPUs need, on one: sharded weights, DDP, every collective, and preemption."""

import csv
import multiprocessing
import os
import signal
import time
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.nn.functional import all_gather, all_reduce

from benchmarks.gpu.commands import (
    checkpoint,
    config_file,
    diffusion,
    faces,
    gan,
    logged,
    own_environment,
    source_of,
    tenshot,
)
from benchmarks.gpu.record import Context, Values
from tenshot.callbacks.preemption import EXIT_STATUS
from tenshot.checkpoints.runs import newest_checkpoint
from tenshot.cli import main
from tenshot.distributed.gathering import gather_objects, gather_rows, reduce_sum
from tenshot.metrics import FrechetDistance, IntraLPIPS, KernelDistance
from tenshot.models.pretrained import read_checkpoint

CHECKOUT = Path(__file__).resolve().parents[2]
LONG = 180
"""Seconds that a process may take to its first steps, and to stop."""


def run(context: Context, part: str) -> None:
    """A part: ``fsdp``, ``ddp``, ``collectives`` or ``signal``."""
    if part == "fsdp":
        context.run("distributed", "FSDP2 save and resume", lambda: sharded(context))
    elif part == "ddp":
        context.run("distributed", "DDP DDPM", lambda: under_ddp(context, "ddpm"))
        context.run("distributed", "DDP StyleGAN2", lambda: under_ddp(context, "stylegan2"))
        context.run("distributed", "DDP DDPM-PA, pairs of all ranks", lambda: under_ddp(context, "ddpmpa"))
    elif part == "collectives":
        with own_environment():
            collectives(context)
    else:
        context.run("distributed", "SIGUSR1", lambda: preempted(context))


def trainer_argv(context: Context, fragment: str) -> list[str | Path]:
    """A trainer's configuration for one device, on the CPU when dry."""
    argv: list[str | Path] = ["--config", CHECKOUT / "configs" / "trainer" / fragment, "--trainer.devices", "1"]
    return [*argv, "--trainer.accelerator", "cpu"] if context.dry else argv


def sharded(context: Context) -> Values:
    """Train under FSDP2, resume in it, draw, and compare with a run on one device."""
    steps = 2 if context.dry else 4
    config = config_file(context, diffusion(context), steps, faces(), log_every_n_steps=1, precision="bf16-mixed")
    argv = ["fit", "--config", config]
    sharded = trainer_argv(context, "fsdp.yaml")
    plain, run = context.folder / "plain", context.folder / "run"
    tenshot(*argv, "--trainer.default_root_dir", plain)
    tenshot(*argv, *sharded, "--trainer.default_root_dir", run, "--trainer.max_steps", str(steps // 2))
    tenshot(*argv, *sharded, "--trainer.default_root_dir", run, "--ckpt_path", "last")
    newest = newest_checkpoint(run)
    assert newest is not None
    assert newest.is_dir(), f"{newest} is not in parts"
    assert read_checkpoint(newest)["global_step"] == steps
    # losses, not weights: Adam's first steps have the size of the learning rate even where a gradient is mere rounding
    ours, theirs = logged(run)["train/loss"], logged(plain)["train/loss"]
    tenshot("predict", "--ckpt_path", run, "--images.count", "2")
    assert len(list((run / "images").glob("*.png"))) == 2
    assert abs(ours - theirs) < 0.01 * abs(theirs), f"far from the run on one device: loss {ours}, there {theirs}"
    return {"loss": ours, "loss_on_one_device": theirs}


def under_ddp(context: Context, kind: str) -> Values:
    """Some steps in a group of one rank, with every loss finite."""
    if kind == "ddpmpa":
        model = diffusion(
            context, "DDPMPA", init_from=str(source_of(context, diffusion(context))), pairwise={"pairs": "all"}
        )
    else:
        model = diffusion(context) if kind == "ddpm" else gan(context)
    steps = 2 if context.dry else 4
    config = config_file(context, model, steps, faces(), log_every_n_steps=1)
    folder = context.folder / kind
    argv = ["--config", config, *trainer_argv(context, "ddp.yaml")]
    tenshot("fit", *argv, "--trainer.default_root_dir", folder)
    assert checkpoint(folder)["global_step"] == steps
    if context.dry and kind != "stylegan2":
        return logged(folder)
    few = ["--evaluate.features", "random", "--evaluate.samples", "4", "--evaluate.reference", "4"]
    tenshot("test", "--ckpt_path", folder, *few, "--evaluate.paths", "2")
    return logged(folder)


def collectives(context: Context) -> None:
    """Every collective that metrics, methods and seeding use, in a group of one rank."""
    device = context.device
    if device.type == "cuda":
        torch.cuda.set_device(0)
    store = context.folder / "store"
    dist.init_process_group(
        "nccl" if device.type == "cuda" else "gloo", init_method=f"file://{store}", rank=0, world_size=1
    )
    rows = torch.arange(12.0).view(4, 3)

    def gathered_rows() -> None:
        for given in (rows, rows.to(device), rows.double(), rows.half(), torch.arange(5), rows > 3):
            together = gather_rows(given)
            assert together is not None
            assert torch.equal(together, given.cpu()), f"{given.dtype} on {given.device}"
        assert gather_rows(None) is None

    def summed() -> None:
        for given in (rows.double(), rows.to(device), torch.zeros(0)):
            assert torch.equal(reduce_sum(given), given)

    def with_gradient(collective: Any) -> None:
        x = rows.to(device, copy=True).requires_grad_()
        y = collective(x)
        y = torch.cat(list(y)) if isinstance(y, tuple | list) else y
        y.square().sum().backward()
        assert torch.equal(y, x)
        assert torch.equal(x.grad, 2 * x)

    def broadcast() -> None:
        x = rows.to(device, copy=True)
        dist.broadcast(x, 0)
        given = ["a", {"b": 1}]
        dist.broadcast_object_list(given, 0)
        dist.barrier()
        assert given == ["a", {"b": 1}]

    def measured() -> Values:
        values: Values = {}
        for kind in (FrechetDistance, KernelDistance, IntraLPIPS):
            metric = kind("random").to(device)
            for real in (False, True):
                metric.update(torch.rand(12, 3, 32, 32, device=device), real=real)
            values |= metric.report().values
        return values

    context.run("distributed", "collective gather_objects", lambda: _is(gather_objects({"a": 1}), [{"a": 1}]))
    context.run("distributed", "collective gather_rows", gathered_rows)
    context.run("distributed", "collective reduce_sum", summed)
    context.run("distributed", "collective all_reduce with gradient", lambda: with_gradient(all_reduce))
    context.run("distributed", "collective all_gather with gradient", lambda: with_gradient(all_gather))
    context.run("distributed", "collective broadcast, objects, barrier", broadcast)
    context.run("distributed", "collective metrics", measured)


def _is(found: Any, expected: Any) -> None:
    assert found == expected, found


def preempted(context: Context) -> Values:
    """A process in training gets SIGUSR1: it saves and ends with the documented status, and the run can go on."""
    config = config_file(context, diffusion(context), 100_000, faces(), log_every_n_steps=2)
    folder, log = context.folder / "preempted", context.folder / "preempted.log"
    argv = ["fit", "--config", str(config), "--trainer.default_root_dir", str(folder)]
    process = multiprocessing.get_context("spawn").Process(target=_training, args=(argv, log))
    process.start()
    try:
        start = time.monotonic()
        while not _trained(folder):
            assert process.is_alive(), log.read_text()[-1000:]
            assert time.monotonic() - start < LONG, "no step was logged"
            time.sleep(0.1)
        asked = time.monotonic()
        os.kill(process.pid or 0, signal.SIGUSR1)
        process.join(LONG)
    finally:
        process.kill()
    seconds, status = time.monotonic() - asked, process.exitcode
    assert status == EXIT_STATUS, f"exit status {status}: {log.read_text()[-1000:]}"
    step = checkpoint(folder)["global_step"]
    tenshot(*argv, "--ckpt_path", "last", "--trainer.max_steps", str(step + 1))
    assert checkpoint(folder)["global_step"] == step + 1
    return {"left_at_step": step, "seconds_to_leave": seconds}


def _training(argv: list[str], log: Path) -> None:
    """The command line in a process of its own, which prints to a file."""
    with log.open("wb") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    main(argv)


def _trained(folder: Path) -> bool:
    """Whether a loss has been logged."""
    path = folder / "logs" / "version_0" / "metrics.csv"
    if not path.exists():
        return False
    with path.open(newline="") as file:
        return any(row.get("train/loss") for row in csv.DictReader(file))
