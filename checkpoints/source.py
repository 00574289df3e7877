"""The frozen source model that an adaptation is held against."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

from lightning.pytorch import LightningModule
from lightning.pytorch.utilities import rank_zero_info
from torch import nn

from tenshot.checkpoints.uses import used_in_training
from tenshot.errors import InputError
from tenshot.models.pretrained import sha256
from tenshot.models.pretrained.sharded import is_sharded

__all__ = ["AdaptsSource", "FrozenSource"]


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


class AdaptsSource(Generic[N]):
    """What methods share that hold the model they adapt against the one it came from."""

    source: FrozenSource[N] | None = None
    source_of_checkpoint: dict[str, Any] | None = None
    """Which source a resumed run began with."""

    def source_or_initial(self, source: str | None, init_from: str | None) -> str:
        """Where the source is read from.

        Raises:
            InputError: Neither is given.
        """
        path = source or init_from
        if path is None:
            raise InputError(
                f"{type(self).__name__} adapts a trained model: give its checkpoint with --model.init_from"
            )
        return path

    def source_file(self, path: str) -> str:
        """The file of the source: as given or, for a resumed run that finds another or none there, one beside it that
        is equal to the recorded one.

        Raises:
            InputError: There is none.
        """
        record, given = self.source_of_checkpoint, Path(path)
        is_file = given.is_file() or is_sharded(given)
        if record is None or (is_file and sha256(given) == record["sha256"]):
            return path
        folder = given.parent if is_file or not given.is_dir() else given / "checkpoints"
        for other in sorted(folder.rglob("*.ckpt")):
            if not is_sharded(other.parent) and sha256(other) == record["sha256"]:
                rank_zero_info(f"{path}: not the source that this run began with, which is {other} now")
                return str(other)
        if is_file:
            return path  # and is refused in words
        raise InputError(
            f"the source model of this adaptation is missing: {record['path']} (sha256 {record['sha256'][:12]}…), and "
            f"no checkpoint in {folder} is equal to it: put it back, or give a copy of it with --model.source"
        )

    def hold_on_to(self, network: N, path: str) -> FrozenSource[N]:
        """Freeze the source, on the device of training, and note in its run that it is needed.

        Raises:
            InputError: It is not the one that a resumed run began with.
        """
        self.source = FrozenSource(network, path)
        if self.source_of_checkpoint is not None:
            self.source.refuse_other_than(self.source_of_checkpoint)
        used_in_training(self.source.path, cast(LightningModule, self))
        rank_zero_info(f"{self.source.path}: the frozen source, sha256 {self.source.sha256[:12]}…")
        return self.source
