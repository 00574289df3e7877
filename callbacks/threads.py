"""How many threads a run on a CPU takes: as many as there are free cores."""

import os
from math import floor
from pathlib import Path
from time import monotonic, process_time
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info

__all__ = ["Threads", "busy_seconds", "seconds_of_others"]

STAT = Path("/proc/stat")
EVERY = 2.0
"""Seconds in which other processes are looked at before threads are chosen by what was seen."""
FIRST = 0.2
"""The same before the first choice: a batch of images that is drawn may take minutes, so the first is not to wait."""
ROUNDING = 0.3
"""A core that others use for less than this share of the time counts as free."""


class Threads(Callback):
    """Where one process runs on a CPU: take a thread for each core that others leave free, again and again.

    The threads of a small network wait for each other at every layer: where two share one core with another process, a
    step takes ten times as long as with one thread. A number that the user sets (OMP_NUM_THREADS) stays. With another
    number of threads sums round otherwise: results are equal to the last bit for one number alone.

    Where the system does not tell what others do (it is read from /proc/stat), PyTorch's number of threads stays.
    """

    def __init__(self) -> None:
        self._most = torch.get_num_threads()
        self._chooses = False
        self._others, self._at, self._wait = 0.0, 0.0, FIRST

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Begin to look, where there is a choice."""
        alone_on_cpu = trainer.strategy.root_device.type == "cpu" and trainer.world_size == 1
        self._chooses = alone_on_cpu and self._most > 1 and "OMP_NUM_THREADS" not in os.environ and STAT.exists()
        if self._chooses:
            self._others, self._at, self._wait = seconds_of_others(), monotonic(), FIRST

    def _choose(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        elapsed = monotonic() - self._at
        if not self._chooses or elapsed < self._wait:
            return
        others = seconds_of_others()
        used = max(0.0, (others - self._others) / elapsed)
        self._others, self._at, self._wait = others, self._at + elapsed, EVERY
        threads = min(self._most, max(1, floor(len(os.sched_getaffinity(0)) - used + ROUNDING)))
        if threads != torch.get_num_threads():
            torch.set_num_threads(threads)
            rank_zero_info(
                f"{threads} of {self._most} threads, for other processes use {used:.1f} cores (OMP_NUM_THREADS in the "
                "environment sets a number that stays)"
            )

    on_train_batch_start = on_validation_batch_start = on_test_batch_start = on_predict_batch_start = _choose

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Leave PyTorch as it was."""
        self.teardown(trainer, pl_module, "")

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Leave PyTorch as it was."""
        if self._chooses:
            torch.set_num_threads(self._most)


def seconds_of_others() -> float:
    """CPU time that all processes but this one have had, on the cores that it may use.

    Those of lower priority (niced) do not count, since they give way, unless this one is niced too.
    """
    niced = os.getpriority(os.PRIO_PROCESS, 0) > 0
    return busy_seconds(STAT.read_text(), os.sched_getaffinity(0), niced) - process_time()


def busy_seconds(stat: str, cores: set[int], niced: bool) -> float:
    """CPU time that cores have worked, or another guest of the same host has kept them, since the system was started.

    Args:
        stat: The content of /proc/stat.
        cores: Their numbers.
        niced: Count processes of lower priority too.
    """
    ticks = 0
    for line in stat.splitlines():
        name, *times = line.split()
        if name.startswith("cpu") and name[3:].isdigit() and int(name[3:]) in cores:
            user, nice, system, _idle, _waiting, interrupts, soft_interrupts, stolen = map(int, times[:8])
            ticks += user + system + interrupts + soft_interrupts + stolen + (nice if niced else 0)
    return ticks / os.sysconf("SC_CLK_TCK")
