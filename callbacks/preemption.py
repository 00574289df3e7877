"""Leave in good order when the cluster asks: finish the step, save, exit with a status that says "run me again"."""

import signal
import threading
from types import FrameType
from typing import Any, cast

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.utilities import rank_zero_info

from tenshot.callbacks.step_checkpoint import StepCheckpoint

__all__ = ["EXIT_STATUS", "Preempted", "Preemption"]

EXIT_STATUS = 85
"""Of a process that was asked to leave and saved its run; scripts/slurm requeue on it."""

SIGNALS = (signal.SIGUSR1, signal.SIGTERM)


class Preempted(SystemExit):
    """The run is saved and wants to go on elsewhere."""

    def __init__(self) -> None:
        super().__init__(EXIT_STATUS)


class Preemption(Callback):
    """On SIGUSR1 or SIGTERM save a checkpoint after the current step and leave with exit status 85.

    The handlers only set a flag, so nothing is cut off in the middle. After an optimiser step, never between the
    micro-batches of one, all ranks learn whether any of them was asked, so that all leave at the same step; a method
    that steps its optimisers by hand is asked after a whole batch. The checkpoint is StepCheckpoint's. The step is
    logged, and validated if it is time, before the run leaves.

    What the agreement costs: nothing in one process; with several, one all-reduce of a number, after every step where
    tensors live on CPUs, else every ``every_n_steps`` steps, because reading the answer waits for the device.

    Args:
        every_n_steps: Optimiser steps between two agreements on devices. The warning that a cluster gives
            (``--signal=SIGUSR1@120``) must be longer than so many steps and a checkpoint.

    Raises:
        Preempted: When the run is saved.
        InputError: It could not be saved.
    """

    def __init__(self, every_n_steps: int = 10) -> None:
        self.every_n_steps = every_n_steps
        self._asked: signal.Signals | None = None
        self._step, self._leaves = -1, False

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._asked = signal.Signals(number)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Hold signals back until somebody listens, as the command line does from its start.

        The processes that prepare batches are started meanwhile, and keep holding them back: clusters send signals to
        all processes of a job, and a batch must not be lost to one.
        """
        if threading.current_thread() is threading.main_thread():
            signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Listen, in place of Lightning, which gives the handlers back that were there before the run."""
        self._step, self._leaves, self._asked = trainer.global_step, False, None
        # Lightning would broadcast and read a tensor before each batch to agree on SIGTERM: a wait for the device
        cast(Any, trainer.fit_loop.epoch_loop)._broadcast_sigterm_tensor = lambda: None
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                signal.signal(number, self._note)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Hold nothing back any more."""
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Agree, and have the step saved: StepCheckpoint comes after all other callbacks."""
        step = trainer.global_step
        if step == self._step:  # between two micro-batches
            return
        self._step = step
        rarely = trainer.world_size > 1 and trainer.strategy.root_device.type != "cpu"
        if rarely and step % self.every_n_steps:
            return
        self._leaves = trainer.strategy.reduce_boolean_decision(self._asked is not None, all=False)
        if self._leaves:
            for callback in trainer.callbacks:  # type: ignore[attr-defined]
                if isinstance(callback, StepCheckpoint):
                    callback.save_now()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Leave, now that the step is saved and logged.

        Raises:
            Preempted: If it was agreed.
        """
        if not self._leaves:
            return
        why = self._asked.name if self._asked else "another rank"
        rank_zero_info(
            f"asked to leave ({why}): step {trainer.global_step} is saved; go on with --ckpt_path last "
            f"(exit status {EXIT_STATUS})"
        )
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger) and trainer.is_global_zero:
                logger.experiment.mark_preempting()
            logger.finalize("preempted")
        trainer.strategy.barrier("all leave together")  # a launcher ends the rest once one rank has left
        raise Preempted
