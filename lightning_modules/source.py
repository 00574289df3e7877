"""The frozen source model that an adaptation is held against."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Generic, TypeVar

from torch import nn

from tenshot.errors import InputError
from tenshot.models.pretrained import sha256

__all__ = ["FrozenSource"]


N = TypeVar("N", bound=nn.Module)


class FrozenSource(Generic[N]):
    """A trained network that is looked at and never trained.

    It is no module of the method, so that it is in neither its state_dict, its EMA, nor DDP's buckets; a checkpoint
    records which file it was.

    Args:
        network: Ready to use; put in eval mode, and its weights freed from gradients.
        path: The file it was read from.
    """

    def __init__(self, network: N, path: str) -> None:
        self.network: N = network.eval().requires_grad_(False)
        self.path = str(Path(path).resolve())
        self.sha256 = sha256(Path(path))

    def record(self) -> dict[str, str]:
        """What a checkpoint keeps of it."""
        return {"path": self.path, "sha256": self.sha256}

    def refuse_other_than(self, record: Mapping[str, Any]) -> None:
        """Make sure that a resumed run goes on with the source it began with.

        Raises:
            InputError: The record of its checkpoint is of another file.
        """
        if record["sha256"] != self.sha256:
            raise InputError(
                f"{self.path}: not the source model that this run began with, {record['path']} (sha256 "
                f"{record['sha256'][:12]}…, here {self.sha256[:12]}…): give that file with --model.source"
            )
