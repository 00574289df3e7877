"""``tenshot paint``: a page on this machine, to draw a mask or sketch on and see what a run makes of it."""

import importlib.util
import socket
from errno import EACCES, EADDRINUSE
from typing import Any

from jsonargparse import Namespace
from lightning.pytorch import LightningDataModule, Trainer
from lightning.pytorch.utilities import rank_zero_info

from tenshot.callbacks import StepProgress
from tenshot.cli.argv import values
from tenshot.cli.paint.canvas import Drawable, read_names
from tenshot.cli.paint.drawing import NoImages, Paint
from tenshot.cli.paint.server import LOOPBACK
from tenshot.errors import InputError, check_range

__all__ = ["add_paint_options", "painting", "prepare_paint"]

ALONE = {"devices": "1", "num_nodes": "1", "strategy": "auto", "logger": "false"}
"""Options of the trainer, whatever the run was trained with."""


def painting(argv: list[str]) -> list[str]:
    """The arguments of a command line; of ``paint RUN`` with ``--ckpt_path RUN``, on one device.

    Raises:
        InputError: What serves the page is not installed.
    """
    if argv[0] != "paint" or {"--help", "-h"} & set(argv):
        return argv
    missing = [name for name in ("starlette", "uvicorn") if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(f"tenshot paint needs {' and '.join(missing)}: pip install 'tenshot[paint]'")
    if len(argv) > 1 and not argv[1].startswith("-"):
        argv = ["paint", "--ckpt_path", *argv[1:]]
    alone = [(f"--trainer.{name}", value) for name, value in ALONE.items() if not values(argv, f"--trainer.{name}")]
    return [*argv, *(word for pair in alone for word in pair)]


def add_paint_options(parser: Any) -> None:
    """Where the page is, and what is drawn on it."""
    parser.add_argument("--host", type=str, default="127.0.0.1", help="Address to serve at; only this machine sees it.")
    parser.add_argument("--port", type=int, default=7860, help="Port to serve at; 0 for any that is free.")
    parser.add_argument(
        "--kind", type=Drawable | None, default=None,
        help="What is drawn, where no data are at hand that tell; without examples then.",
    )  # fmt: skip
    parser.add_argument(
        "--names", type=str | None, default=None, help="File with the names of the classes, a line for each."
    )


def prepare_paint(trainer: Trainer, settings: Namespace, data: LightningDataModule) -> LightningDataModule:
    """Have a trainer serve the page in place of predicting.

    Args:
        trainer: With its callbacks.
        settings: The options of the command.
        data: Of the run.

    Returns:
        What to predict instead: nothing.

    Raises:
        InputError: The address cannot be served at, the names cannot be read, or there are several processes.
    """
    if trainer.world_size > 1:
        raise InputError(f"tenshot paint draws on one device, not on {trainer.world_size}: set --trainer.devices 1")
    colours = settings.data.init_args.get("colours") if settings.data is not None else None
    file = settings.names or colours
    paint = Paint(_listening(settings.host, settings.port), data, settings.kind, read_names(file) if file else {})
    others = [each for each in trainer.callbacks if not isinstance(each, StepProgress)]  # type: ignore[attr-defined]
    trainer.callbacks[:] = [*others, paint]  # type: ignore[attr-defined]
    return NoImages()


def _listening(host: str, port: int) -> socket.socket:
    """A socket at the address."""
    check_range("--port", port, 0, 65535)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host, port), family=family)
    except OSError as error:
        remedy = "another --port, 0 for any" if error.errno in (EADDRINUSE, EACCES) else "another --host"
        reason = str(error.strerror or error).split(" (while")[0]
        raise InputError(f"--host {host} --port {port}: {reason}: choose {remedy}") from None
    if host not in LOOPBACK:
        rank_zero_info(f"--host {host}: everybody who reaches this machine can draw with the run")
    return listening
