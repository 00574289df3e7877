"""The frozen source model that an adaptation is held against."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Generic, TypeVar

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info
from torch import nn

from tenshot.checkpoints.shipped import shipped_file
from tenshot.checkpoints.uses import used_in_training
from tenshot.errors import InputError
from tenshot.models.pretrained import sha256
from tenshot.models.pretrained.sharded import is_sharded

__all__ = ["FrozenSource"]

N = TypeVar("N", bound=nn.Module)


class FrozenSource(Callback, Generic[N]):
    """A trained network that is looked at and never trained.

    It is no module of the method, so that it is in neither its state_dict, its EMA, nor DDP's buckets. A method returns
    it from ``configure_callbacks``: it writes into each checkpoint which file it was, and reads that again.

    Args:
        path: The file or the run to read it from.
        method: The name of the method, for the message.

    Raises:
        InputError: No path is given.
    """

    network: N | None = None
    """In eval mode, its weights freed from gradients; none before training, and where no loss looks at it."""

    def __init__(self, path: str | None, method: str) -> None:
        if path is None:
            raise InputError(f"{method} adapts a trained model: give its checkpoint with --model.init_from")
        self.path = path
        self.recorded: Mapping[str, Any] = {}
        """What the checkpoint of a resumed run tells of its source."""
        self.entry: Mapping[str, Any] = {}
        """What this run's checkpoints tell of it."""

    def file(self) -> str:
        """The file to read: as given or, for a resumed run that finds another or none there, one beside it that is
        equal to the recorded one.

        Raises:
            InputError: There is none.
        """
        record, given = self.recorded, shipped_file(self.path) or Path(self.path)
        is_file = given.is_file() or is_sharded(given)
        if not record or (is_file and sha256(given) == record["sha256"]):
            return self.path
        folder = given.parent if is_file or not given.is_dir() else given / "checkpoints"
        for other in sorted(folder.rglob("*.ckpt")):
            if not is_sharded(other.parent) and sha256(other) == record["sha256"]:
                rank_zero_info(f"{self.path}: not the source that this run began with, which is {other} now")
                return str(other)
        if is_file:
            return self.path  # and is refused in words
        raise InputError(
            f"the source model of this adaptation is missing: {record['path']} (sha256 {record['sha256'][:12]}…), and "
            f"no checkpoint in {folder} is equal to it: put it back, or give a copy of it with --model.source"
        )

    def hold(self, network: N, path: str, module: LightningModule, **about: Any) -> None:
        """Freeze the network, and note in the run that it is needed.

        Args:
            network: As it was read, on the device of training.
            path: The file that it was read from.
            module: The method.
            **about: What a checkpoint is to tell of it, beside path and hash.

        Raises:
            InputError: It is not the one that a resumed run began with.
        """
        digest, record = sha256(path), self.recorded
        path = self.path if shipped_file(self.path) else str(Path(path).resolve())  # a name is good on other machines
        if record and record["sha256"] != digest:
            raise InputError(
                f"{path}: not the source model that this run began with, {record['path']} (sha256 "
                f"{record['sha256'][:12]}…, here {digest[:12]}…): give that file with --model.source"
            )
        self.network, self.entry = network.eval().requires_grad_(False), {"path": path, "sha256": digest, **about}
        used_in_training(path, module)
        rank_zero_info(f"{path}: the frozen source, sha256 {digest[:12]}…")

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add which source it was adapted from."""
        if self.entry:
            checkpoint.setdefault("tenshot", {})["source"] = dict(self.entry)

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Remember which source the run began with."""
        self.recorded = checkpoint["tenshot"].get("source", {})
