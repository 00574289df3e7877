"""Preemption: finish the step, save a checkpoint, stop, and say how to resume."""

import os
import signal
import threading
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any, cast

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.utilities import rank_zero_info

from tenshot.callbacks.step_checkpoint import StepCheckpoint
from tenshot.checkpoints.runs import newest_checkpoint
from tenshot.errors import InputError, SaidError
from tenshot.run.launched import kill_launched, stop_observing

__all__ = ["EXIT_STATUS", "Preempted", "Preemption"]

EXIT_STATUS = 85
"""Of a process that was preempted and has saved its run; scripts/slurm requeue on it."""

BY_HAND = {signal.SIGINT: 130, signal.SIGHUP: 129}
"""Signals of people, Ctrl-C and a terminal that is closed, with the shell's exit statuses: nothing to requeue on."""

SIGNALS = (signal.SIGUSR1, signal.SIGTERM, *BY_HAND)
FAULT = 1000
"""Takes the place of a signal's number where the data cannot go on: a process that prepares batches has died."""


class Preempted(SystemExit):
    """The run is saved and can be resumed, here or elsewhere."""

    def __init__(self, status: int = EXIT_STATUS) -> None:
        super().__init__(status)


class Preemption(Callback):
    """On SIGUSR1, SIGTERM, SIGINT (Ctrl-C) or SIGHUP save a checkpoint after the current step and stop.

    The exit status is 85 for the first two, 130 and 129 for the others. A second SIGINT stops at once and says what is
    lost. A process that prepares batches and dies, or too many broken images, end the run so too, with an error.

    The handlers only set a flag, so nothing is cut off in the middle. After an optimiser step, never between the
    micro-batches of one, all ranks learn whether any of them got a signal, so that all stop at the same step; a
    method that steps its optimisers by hand does so after a whole batch. The checkpoint is StepCheckpoint's. The step
    is logged, and validated if it is time, before the run stops. SIGINT and SIGHUP stay ignored where the run was
    started so (by nohup, or in the background of a script).

    What the agreement costs: nothing in one process; with several, one all-reduce of a number, after every step where
    tensors live on CPUs, else every ``every_n_steps`` steps, because reading the answer waits for the device.

    Args:
        every_n_steps: Optimiser steps between two agreements on devices. The warning that a cluster gives
            (``--signal=SIGUSR1@120``) must be longer than so many steps and a checkpoint.

    Raises:
        Preempted: When the run is saved.
        InputError: It could not be saved; or it is, and the data cannot go on.
    """

    def __init__(self, every_n_steps: int = 10) -> None:
        self.every_n_steps = every_n_steps
        self._signal: int | None = None
        self._step, self._stops = -1, False
        self._trainer: Trainer | None = None
        self._process = -1
        self._fault: str | None = None

    def _note(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:  # one that prepares batches, started with this handler
            return
        if number == signal.SIGINT and self._signal == signal.SIGINT:
            self._stop_at_once()
        self._signal = number
        if number == signal.SIGHUP:
            _write_nowhere()
        if number == signal.SIGINT:
            self._say("stopping once this step is done and saved; Ctrl-C again: at once, without saving")

    def _stop(self, error: InputError) -> None:
        """Stop, once the step is saved, because the data cannot go on for ever."""
        self._fault = str(error)

    def _say(self, text: str) -> None:
        """Write a line at once, from within a handler."""
        if self._trainer is not None and self._trainer.is_global_zero:
            with suppress(OSError):
                os.write(2, f"\ntenshot: {text}\n".encode())

    def _stop_at_once(self) -> None:
        trainer = self._trainer
        assert trainer is not None
        newest = newest_checkpoint(Path(trainer.default_root_dir))
        since = int(newest.stem.removeprefix("step=")) if newest else 0
        lost = f"steps {since + 1} to {trainer.global_step} are lost" if trainer.global_step > since else "no step lost"
        on = f"; go on from step {since} with --ckpt_path {trainer.default_root_dir}" if newest else ""
        self._say(f"stopped at once, nothing saved: {lost}{on}")
        kill_launched(trainer)
        os._exit(BY_HAND[signal.SIGINT])

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Hold signals back until somebody listens, as the command line does from its start.

        The processes that prepare batches are started meanwhile, and keep holding them back: clusters send signals to
        all processes of a job, and a batch must not be lost to one.
        """
        if threading.current_thread() is threading.main_thread():
            signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Listen, in place of Lightning, which gives the handlers back that were there before the run."""
        self._step, self._stops, self._signal = trainer.global_step, False, None
        self._trainer, self._process, self._fault = trainer, os.getpid(), None
        refusals = getattr(getattr(trainer, "datamodule", None), "refusals", None)
        if refusals is not None:
            refusals.stop = self._stop
        # Lightning would broadcast and read a tensor before each batch to agree on SIGTERM: a wait for the device
        cast(Any, trainer.fit_loop.epoch_loop)._broadcast_sigterm_tensor = lambda: None
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                if number not in BY_HAND or signal.getsignal(number) != signal.SIG_IGN:
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
        self._fault = self._fault or next(
            filter(None, (getattr(one, "failure", None) for one in _loaders(trainer))), None
        )
        if self._fault:
            self._signal = FAULT
        self._stops = trainer.strategy.reduce_boolean_decision(self._signal is not None, all=False)
        if self._stops:
            for callback in trainer.callbacks:  # type: ignore[attr-defined]
                if isinstance(callback, StepCheckpoint):
                    callback.save_now()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Stop, now that the step is saved and logged.

        Raises:
            Preempted: If it was agreed.
            InputError: The same, because the data cannot go on.
        """
        if not self._stops:
            return
        number = torch.tensor(self._signal or 0, device=trainer.strategy.root_device)
        why = int(cast(Any, trainer.strategy.reduce(number, reduce_op="max")))
        on = f"step {trainer.global_step} is saved; go on with --ckpt_path {trainer.default_root_dir}"
        status = 1 if why == FAULT else BY_HAND.get(cast(signal.Signals, why), EXIT_STATUS)
        if why != FAULT:
            what = "stopped" if why in BY_HAND else "preempted"
            rank_zero_info(f"{what} ({signal.Signals(why).name}): {on} (exit status {status})")
        stop_observing()
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger) and trainer.is_global_zero:
                logger.experiment.mark_preempting()
            logger.finalize("preempted")
        trainer.strategy.barrier("all stop together")  # a launcher ends the rest once one rank has ended
        if why == FAULT:
            raise InputError(f"{self._fault}: {on}") if self._fault else SaidError("another rank said why")
        raise Preempted(status)


def _write_nowhere() -> None:
    """Let what is written to a terminal that is gone vanish: an error of the bar would end the run unsaved."""
    for stream in (1, 2):
        try:
            os.write(stream, b"")
        except OSError:
            with suppress(OSError), open(os.devnull, "w") as nowhere:
                os.dup2(nowhere.fileno(), stream)


def _loaders(trainer: Trainer) -> list[Any]:
    """What the trainer takes batches from, for training and validation."""
    every: list[Any] = []
    for loaders in (trainer.train_dataloader, trainer.val_dataloaders):
        every += loaders if isinstance(loaders, list | tuple) else [loaders]
    return every
