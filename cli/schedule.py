"""A schedule of the learning rate has as many steps as training, or a line says so before it begins."""

from typing import Any

from jsonargparse import Namespace

from tenshot.errors import InputError

__all__ = ["fit_schedule"]


def fit_schedule(init_args: Namespace, max_steps: int) -> None:
    """Give a schedule whose total is left open the steps of training, and refuse one that ends before them.

    Left open is ``total_steps: null`` of ``OneCycleLR``, and a ``total_iters`` or ``T_max`` of -1 of the others.
    ``OneCycleLR`` cannot go beyond its end. ``LinearLR`` and ``PolynomialLR`` can, but where they end in 0 nothing
    would be learnt any more.

    Args:
        init_args: Of the method; its ``lr_scheduler`` is completed.
        max_steps: Of the trainer; -1 for no limit.

    Raises:
        InputError: The schedule ends before training does.
    """
    schedule = init_args.get("lr_scheduler")
    if schedule is None:
        return
    name, options = schedule.class_path.rsplit(".", 1)[-1], schedule.init_args
    left_open = [option for option in ("total_iters", "T_max") if options.get(option) == -1]
    if max_steps < 0 and (name == "OneCycleLR" or left_open):
        raise InputError(f"--model.lr_scheduler {name} goes over all of training: set --trainer.max_steps")
    for option in left_open:
        options[option] = max(1, max_steps)
    if name == "OneCycleLR":
        if options.total_steps is None and not (options.epochs and options.steps_per_epoch):
            options.total_steps = max(1, max_steps)
        total = options.total_steps
        total = options.epochs * options.steps_per_epoch if total is None else total
        _refuse_end(name, "total_steps", total, max_steps, "cannot go beyond its end", " or null, which follows it")
    elif (name == "LinearLR" and options.end_factor == 0) or name == "PolynomialLR":
        _refuse_end(
            name,
            "total_iters",
            options.total_iters,
            max_steps,
            "stays at a learning rate of 0 from there",
            " or -1, which follows it",
        )


def _refuse_end(name: str, option: str, total: Any, max_steps: int, why: str, otherwise: str) -> None:
    if total < max_steps:
        raise InputError(
            f"--model.lr_scheduler.{option} is {total}, --trainer.max_steps {max_steps}, and {name} {why}: set "
            f"--model.lr_scheduler.{option} to {max_steps}{otherwise}"
        )
