"""How fast a run is, how long it waits for images, and what it has cost."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic
from typing import Any, cast

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from tenshot.callbacks.peaks import peak_of
from tenshot.distributed.trainer_attributes import callback_of

__all__ = ["Operations", "Pace", "Throughput", "paused"]

WARM_UP = 3
"""Steps at the start of an attempt that are not timed: operations are counted, programs compiled, kernels chosen."""

Phases = tuple[bool, ...]


@dataclass
class Pace:
    """What this rank did in some time.

    Args:
        seconds: How long, without pauses.
        steps: Of the optimiser.
        images: Trained on.
        operations: Floating point, by formula.
        waited: Seconds in which the loop waited for batches.
    """

    seconds: float = 0.0
    steps: int = 0
    images: int = 0
    operations: float = 0.0
    waited: float = 0.0


class Throughput(Callback):
    """Log speed and cost every ``log_every_n_steps`` steps, in the row of the losses and to every logger.

    * ``speed/images_per_second``: of all ranks.
    * ``speed/steps_per_second``: of the optimiser, or the generator's of a GAN.
    * ``speed/data_wait``: share of the time in which the loop of rank 0 stood still for want of a batch.
    * ``speed/model_tflops``: 10^12 floating point operations a second and device, those of the matrix products,
      convolutions and attention of a training step: forward, backward, frozen networks and penalties. They are
      those that are executed: what is recomputed to save memory counts again.
    * ``speed/mfu``: the same as a share of the device's peak in the precision of the run, where ``peaks.py`` has it.
    * ``speed/peak_memory_gib``: the most that PyTorch held on the GPU of rank 0 since the run was started or resumed.
    * ``speed/gpu_hours``: time by GPUs, in all attempts at the run (of one that was killed, until its last checkpoint),
      with everything that is not training; ``speed/process_hours`` where there are no GPUs.

    Speeds are those since the last row. Neither the first steps of an attempt are in them, nor what is said to be a
    pause (``paused``): validation, evaluations, grids, strips and checkpoints. Averaging weights, logging and callbacks
    of the user's are.

    Operations are counted once a run, while a step is done, and are told of later steps by their images. A method
    that does not do the same at every step says what it does (``phases``), as GANs do of their lazy penalties: then one
    step of each kind is counted, and not timed. The count is in the checkpoint. To be the first of the callbacks: what
    others do after a step is not counted then.
    """

    def __init__(self) -> None:
        self.operations: dict[Phases, float] = {}  # kind of step -> for each image
        self._hours = 0.0  # of earlier attempts, by devices
        self._began = monotonic()
        self._device, self._world, self._peak = torch.device("cpu"), 1, cast(float | None, None)
        self._step, self._timed_from = 0, 0
        self._phases: Callable[[int], Phases] = lambda step: ()
        self._counter: Operations | None = None
        self._counted, self._images = 0, 0  # in this step
        self._since: float | None = None  # when the time began that the next row tells of; none: warming up
        self._now, self._last = Pace(), cast(Pace | None, None)
        self._paused, self._paused_at, self._asked = 0.0, 0.0, 0.0

    # The run

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """The devices are taken from here."""
        self._began, self._device, self._world = monotonic(), trainer.strategy.root_device, trainer.world_size

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Be there when the loop asks for a batch or validates, for which there are no hooks."""
        self._phases = getattr(pl_module, "phases", lambda step: ())
        self._step, self._since = trainer.global_step, None
        self._timed_from = self._step + WARM_UP
        loop = cast(Any, trainer.fit_loop.epoch_loop)
        before, after, validate = type(loop)._on_before_fetch, type(loop)._on_after_fetch, type(loop.val_loop).run

        def asks() -> None:
            before(loop)
            self._asked = monotonic()

        def has() -> None:
            self._now.waited += monotonic() - self._asked
            after(loop)

        def validates() -> Any:
            with self.pause():
                return validate(loop.val_loop)

        loop._on_before_fetch, loop._on_after_fetch, loop.val_loop.run = asks, has, validates

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Count the operations of the first step of a kind."""
        if self._phases(self._step) not in self.operations:
            self._leave()
            self._counter = Operations()
            self._counter.__enter__()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Note what was done; log when it is time."""
        counted = self._counter is not None
        self._stop_counting()
        self._images += len(batch["image"])
        step = trainer.global_step
        if step == self._step:  # between two micro-batches
            return
        kind = self._phases(self._step)
        if counted:
            self.operations[kind] = self._counted / self._images
        elif self._since is not None:
            self._now.steps += 1
            self._now.images += self._images
            self._now.operations += self._images * self.operations[kind]
        self._step, self._images, self._counted = step, 0, 0
        if step == self._timed_from:
            self._find_peak(str(trainer.precision))
            self._open()
        if trainer.log_every_n_steps and step % trainer.log_every_n_steps == 0:  # type: ignore[attr-defined]
            pl_module.log_dict(self._cost() | self._speed())

    def _find_peak(self, precision: str) -> None:
        """In the middle of a step: whether that is in TF32 makes a difference."""
        self._peak = peak_of(self._device, precision)
        if self._peak is None and self._device.type == "cuda":
            card = torch.cuda.get_device_name(self._device)
            rank_zero_info(f"no speed/mfu: the peak of {card} in {precision} is not in callbacks/peaks.py")

    def _stop_counting(self) -> None:
        if self._counter is not None:
            self._counter.__exit__(None, None, None)
            self._counted += self._counter.count
            self._counter = None
            self._return()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Count no more."""
        self._stop_counting()

    # Time

    def _clock(self) -> float:
        """The host's, when the device has done what it was told to.

        The host runs ahead of a GPU: without waiting, work of one row would fall into the time of the next. It is read
        once a row, and around pauses, where the host is about to wait for the device anyway: for the losses that are
        logged, for images, for weights.
        """
        if self._device.type != "cpu":
            torch.accelerator.synchronize(self._device)
        return monotonic()

    def _open(self) -> None:
        self._since, self._paused, self._now = self._clock(), 0.0, Pace()

    def _leave(self) -> None:
        if self._since is not None:
            self._paused_at = self._clock()

    def _return(self) -> None:
        if self._since is not None:
            self._paused += self._clock() - self._paused_at

    @contextmanager
    def pause(self) -> Iterator[None]:
        """Leave out the time inside the block."""
        self._leave()
        try:
            yield
        finally:
            self._return()

    def pace(self) -> Pace | None:
        """Since the last row, or, right after one, what it told; none while warming up."""
        if self._since is None or not self._now.steps:
            return self._last
        return Pace(**(vars(self._now) | {"seconds": monotonic() - self._since - self._paused}))

    def _speed(self) -> dict[str, float]:
        if self._since is None or not self._now.steps:
            return {}
        self._now.seconds = self._clock() - self._since - self._paused
        pace = self._last = self._now
        self._since, self._paused, self._now = self._since + pace.seconds + self._paused, 0.0, Pace()
        speed = {
            "speed/images_per_second": pace.images * self._world / pace.seconds,
            "speed/steps_per_second": pace.steps / pace.seconds,
            "speed/data_wait": pace.waited / pace.seconds,
            "speed/model_tflops": pace.operations / pace.seconds / 1e12,
        }
        return speed | ({"speed/mfu": pace.operations / pace.seconds / self._peak} if self._peak else {})

    # Cost

    def _device_hours(self) -> float:
        return self._hours + (monotonic() - self._began) / 3600 * self._world

    def _cost(self) -> dict[str, float]:
        if self._device.type == "cpu":
            return {"speed/process_hours": self._device_hours()}
        cost = {"speed/gpu_hours": self._device_hours()}
        if self._device.type == "cuda":
            cost["speed/peak_memory_gib"] = torch.cuda.max_memory_allocated(self._device) / 2**30
        return cost

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Keep what the run has cost so far, and what was counted."""
        checkpoint["speed"] = {"device_hours": self._device_hours(), "operations": self.operations}

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Go on from there."""
        kept = checkpoint.get("speed", {"device_hours": 0.0, "operations": {}})
        self._hours, self.operations = kept["device_hours"], dict(kept["operations"])


@contextmanager
def paused(trainer: Trainer) -> Iterator[None]:
    """What is done inside the block is not training, and is not in the speeds that are logged."""
    throughput = callback_of(trainer, Throughput)
    if throughput is None:
        yield
        return
    with throughput.pause():
        yield


class Operations(TorchDispatchMode):
    """Inside the block, add up what matrix products, convolutions and attention take, forward and backward.

    The formulas are those of ``torch.utils.flop_counter``. Its ``FlopCounterMode`` cannot be used itself: it follows
    modules by hooks on tensors, and with these ``autograd.grad``, which the penalties of GANs are made of, raises.
    """

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        """Do the operation, and count it."""
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        formula = flop_registry.get(func.overloadpacket)
        if formula is not None:
            self.count += formula(*args, **kwargs, out_val=out)
        return out
