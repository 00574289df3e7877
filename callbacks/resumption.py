"""A resumed run goes on with its state and the configuration that it is given now."""

import copy
import warnings
from collections import defaultdict
from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info
from torch import nn
from torch.optim import Optimizer

from tenshot.errors import InputError

__all__ = ["Resumption"]

_OF_A_MOMENT = {"last_epoch", "_step_count", "_is_initial", "_get_lr_called_within_step", "_last_lr"}
"""What changes in a schedule from step to step; the rest of its state says which schedule it is."""
_OF_A_SCHEDULE = {"initial_lr", "max_lr", "min_lr", "max_momentum", "base_momentum"}
"""What a schedule keeps in the groups of its optimiser."""


class Resumption(Callback):
    """Let optimisers and schedules of a resumed run be those of its configuration, with the state of the checkpoint.

    PyTorch restores the learning rate, the other numbers of an optimiser and the schedule together with their state, so
    that what the configuration says now would be ignored. Here

    * the numbers of an optimiser are those of the configuration;
    * a schedule that is another than the checkpoint's is at the step where it would be, had it been there from the
      beginning; one that is the same goes on;
    * the moments are the checkpoint's where the optimiser keeps the same ones; else they start afresh, and a line says
      so.

    With an unchanged configuration all is as it was, to the last bit.

    Args:
        compared: Whether changes of the configuration are told elsewhere; otherwise those of the optimisers are here.
    """

    def __init__(self, compared: bool = False) -> None:
        self.compared = compared
        self._checkpoint: dict[str, Any] | None = None

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Keep it until there are optimisers, which take their state from it afterwards."""
        self._checkpoint = checkpoint

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Bring what the optimisers are about to take into line with what they are now."""
        checkpoint, self._checkpoint = self._checkpoint, None
        if checkpoint is None or "optimizer_states" not in checkpoint:
            return
        saved, states, step = (
            checkpoint["optimizer_states"],
            checkpoint.get("lr_schedulers", []),
            checkpoint["global_step"],
        )
        schedulers = [config.scheduler for config in trainer.lr_scheduler_configs]
        checkpoint["lr_schedulers"] = [
            _schedule_state(scheduler, states[i] if i < len(states) else None, saved, trainer.optimizers, step)
            for i, scheduler in enumerate(schedulers)
        ]
        moved = {id(scheduler.optimizer): _moved_by(scheduler) for scheduler in schedulers}
        checkpoint["optimizer_states"] = [
            self._optimizer_state(optimizer, state, moved.get(id(optimizer), set()), step)
            for optimizer, state in zip(trainer.optimizers, saved, strict=True)
        ]

    def _optimizer_state(
        self, optimizer: Optimizer, saved: dict[str, Any], moved: set[str], step: int
    ) -> dict[str, Any]:
        """The numbers of the configuration with the moments of the checkpoint."""
        groups, name = [], type(optimizer).__name__
        for group, old in zip(optimizer.param_groups, saved["param_groups"], strict=True):
            groups.append(group | {"params": old["params"]})
            for key in sorted(group.keys() & old.keys() - moved - {"params"}):
                if not self.compared and _plain(group[key]) != _plain(old[key]):
                    rank_zero_info(f"resume: {name} {key} {old[key]} -> {group[key]} from step {step}")
        kept = next((number for number, values in saved["state"].items() if values), None)
        if kept is None or set(saved["state"][kept]) == _names_kept(optimizer, int(kept)):
            return saved | {"param_groups": groups}
        rank_zero_info(
            f"resume: {name} starts afresh at step {step}: it keeps other moments than the optimiser of the checkpoint"
        )
        return {"state": {}, "param_groups": groups}


def _moved_by(scheduler: Any) -> set[str]:
    """The numbers of an optimiser that its schedule moves."""
    return {"lr", "betas", "momentum"} if getattr(scheduler, "cycle_momentum", False) else {"lr"}


def _schedule_state(
    scheduler: Any, saved: MutableMapping[str, Any] | None, states: list[Any], optimizers: list[Optimizer], step: int
) -> Any:
    """The state that a schedule goes on with; if it is another one, the optimiser is brought to where that is."""
    number = next(i for i, optimizer in enumerate(optimizers) if optimizer is scheduler.optimizer)
    then, now = states[number]["param_groups"], scheduler.optimizer.param_groups
    own = scheduler.state_dict()
    if _identity(saved) == _identity(own) and _scheduled(then) == _scheduled(now):
        moved = _moved_by(scheduler)
        for group, old in zip(now, then, strict=True):
            group.update({name: old[name] for name in ("lr", "momentum") if name in moved & old.keys()})
            if "betas" in moved & old.keys():
                group["betas"] = (old["betas"][0], *group["betas"][1:])
        return saved
    done = step if saved is None else saved["last_epoch"]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that no optimiser stepped meanwhile
            for _ in range(done):
                scheduler.step()
    except ValueError as error:
        raise InputError(
            f"--model.lr_scheduler {type(scheduler).__name__} ends before step {done}, where the checkpoint is: raise "
            f"--trainer.max_steps, and its total if it has one ({error})"
        ) from None
    rates = ", ".join(f"{old['lr']:.4g} -> {group['lr']:.4g}" for group, old in zip(now, then, strict=True))
    rank_zero_info(f"resume: {type(scheduler).__name__} is at step {done} of its new course, learning rate {rates}")
    return scheduler.state_dict()


def _identity(state: Any) -> Any:
    """What says which schedule it is."""
    if isinstance(state, Mapping):
        return {name: _identity(value) for name, value in state.items() if name not in _OF_A_MOMENT}
    if isinstance(state, list | tuple):
        return [_identity(value) for value in state]
    return state


def _scheduled(groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in group.items() if name in _OF_A_SCHEDULE} for group in groups]


def _names_kept(optimizer: Optimizer, number: int) -> set[str]:
    """What an optimiser keeps of its weight of that number, found by a step of a copy on zeros."""
    weight, group = next((w, g) for i, (w, g) in enumerate(_weights(optimizer)) if i == number)
    probe: Any = copy.copy(optimizer)
    zeros = nn.Parameter(torch.zeros_like(weight))
    zeros.grad = torch.zeros_like(weight)
    probe.param_groups, probe.state = [{**group, "params": [zeros]}], defaultdict(dict)
    probe.step(lambda: zeros.new_zeros(()))
    return set(probe.state[zeros])


def _weights(optimizer: Optimizer) -> Iterator[tuple[nn.Parameter, dict[str, Any]]]:
    for group in optimizer.param_groups:
        for weight in group["params"]:
            yield weight, group


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
