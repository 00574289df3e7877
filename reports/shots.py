"""The data of a run, and the images it was trained on, made again from its configuration."""

import inspect

import numpy as np
from numpy.typing import NDArray

from tenshot import datamodules
from tenshot.callbacks.data_record import choice_as_recorded
from tenshot.datamodules import ImageDataModule
from tenshot.errors import InputError
from tenshot.reports.run import Run

__all__ = ["NotAvailable", "data_of", "shots_of"]

MOST = 1000
"""More training images are no shots."""


class NotAvailable(Exception):
    """Something the report would show is not to be had; the message says why."""


def shots_of(run: Run) -> NDArray[np.uint8]:
    """The training images in their order: (K, H, W, 3).

    Raises:
        NotAvailable: They are no few, or configuration and disk do not give them any more.
    """
    module = data_of(run)
    try:
        source, _ = module.sources()
        if len(source) > MOST:
            raise NotAvailable(f"it was trained on {len(source)} images, not on a few")
        pixels = source.read(range(len(source)))["image"]
    except InputError as error:
        raise NotAvailable(str(error)) from None
    return np.asarray(pixels.permute(0, 2, 3, 1).numpy(), dtype=np.uint8)


def data_of(run: Run) -> ImageDataModule:
    """The data of a run, with the choice of images that it made.

    Raises:
        NotAvailable: Its configuration has none, or none that fit this version.
    """
    data = run.raw.get("data")
    if not isinstance(data, dict) or "class_path" not in data:
        raise NotAvailable("the run has no configuration of its data")
    name = str(data["class_path"])
    short = name.rsplit(".", 1)[-1]
    kind = getattr(datamodules, short, None)
    ours = name in (getattr(kind, "__name__", None), f"tenshot.{short}", f"tenshot.datamodules.{short}")
    if not (ours and inspect.isclass(kind) and issubclass(kind, ImageDataModule)):
        raise NotAvailable(f"{name} is no data set of tenshot's, which could be opened here")
    try:
        module: ImageDataModule = kind(**(data.get("init_args") or {}))
    except InputError as error:
        raise NotAvailable(str(error)) from None
    except TypeError as error:  # written by another version
        raise NotAvailable(f"config.yaml does not fit this version ({error})") from None
    choice_as_recorded(module, run.folder)
    return module
