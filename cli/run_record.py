"""What a run was configured with: ``config.yaml`` in its folder, and its history where a resumed run changed it."""

import contextlib
import io
import os
from collections.abc import Mapping
from pathlib import Path
from time import time
from typing import Any

import yaml
from jsonargparse import ArgumentParser, Namespace
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.utilities import rank_zero_info

from tenshot.checkpoints.runs import (
    checkpoint_step,
    configuration_at,
    configuration_until,
    run_of,
)
from tenshot.cli.renamed_options import without_former_settings
from tenshot.errors import InputError
from tenshot.reports.run import flat
from tenshot.run.abandoned import set_aside
from tenshot.run.best_effort import best_effort
from tenshot.run.code_version import code_version

__all__ = ["RunRecord", "dumped"]

OF_THE_PLACE = {"config", "ckpt_path", "trainer.default_root_dir"}
"""Options that say where a run is, not what it does."""

Changes = dict[str, tuple[Any, Any]]
"""Option -> what it was and what it is."""


class RunRecord(Callback):
    """Write the configuration to the run's folder and to every logger; of a resumed run say and keep what changed.

    A new run gets its ``config.yaml``, dated to when it began, once its first step is done: a start that fails before
    leaves a folder that is no run's.

    Args:
        parser: Of the command.
        config: Of the command, as it was asked for, not as the checkpoint completes it.
        checkpoint: That the run goes on from; none for a new one.

    Raises:
        InputError: What cannot change in a run was changed.
    """

    def __init__(self, parser: ArgumentParser, config: Namespace, checkpoint: Path | None) -> None:
        self.text = dumped(parser, config).replace("\nckpt_path: null\n", "\n")
        self.settings: dict[str, Any] = yaml.safe_load(self.text)
        self.checkpoint, self.before, self.changes = checkpoint, b"", Changes()
        self.began, self.first, self.recorded = time(), 0, False
        home = run_of(checkpoint) if checkpoint else None
        if checkpoint is None or home is None:
            return
        before = configuration_at(home, checkpoint_step(checkpoint))
        if before.exists():
            self.before, self.written = before.read_bytes(), before.stat().st_mtime
            self.changes = _changes(*_comparable(parser, before, self.settings))
            _refuse_what_cannot_change(self.changes, checkpoint)

    @property
    def compared(self) -> bool:
        """Whether it is known what the run was configured with before."""
        return bool(self.before)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Tell the loggers."""
        if trainer.is_global_zero:
            for logger in trainer.loggers:
                logger.log_hyperparams(self.settings | {"code_version": code_version()})

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Begin the record of a new run, once a step is done."""
        if not self.recorded and trainer.global_step > self.first:
            self._record(trainer)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Begin it at the latest now: a checkpoint that lies beside no configuration is of no run."""
        if not self.recorded:
            self._record(trainer)

    def _record(self, trainer: Trainer) -> None:
        self.recorded = True
        run = Path(trainer.default_root_dir)
        if trainer.is_global_zero and not (self.checkpoint and self._goes_on_in(run)):
            with best_effort(str(run)):
                run.mkdir(parents=True, exist_ok=True)
                _write(run / "config.yaml", self.text.encode(), self.began)

    def _goes_on_in(self, run: Path) -> bool:
        home = run_of(self.checkpoint) if self.checkpoint else None
        return home is not None and home.resolve() == run.resolve()

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Let a changed method begin its log anew: it may not log what it did."""
        if any(name.startswith("model.") for name in self.changes):
            checkpoint.pop("logged", None)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Once the checkpoint is loaded: set aside what came after it, and record what changed."""
        self.first = trainer.global_step
        if self.checkpoint is None or not trainer.is_global_zero:
            return
        run, step = Path(trainer.default_root_dir), trainer.global_step
        said = set_aside(run, step, bool(self.changes))
        if said:
            rank_zero_info(said)
            if any(isinstance(logger, WandbLogger) for logger in trainer.loggers):
                rank_zero_info(
                    f"W&B keeps both lines in one run, with the steps after {step} twice: where they should be two, "
                    f"delete {run / 'wandb_id.txt'} before going on, and a new W&B run begins"
                )
        for name, (was, now) in self.changes.items():
            rank_zero_info(f"resume: --{name} {_shown(was)} -> {_shown(now)} from step {step}")
        if not self.before or not self._goes_on_in(run):
            return
        if self.changes and not configuration_until(run, step).exists():
            _write(configuration_until(run, step), self.before, self.written)
        if self.changes:
            _write(run / "config.yaml", self.text.encode())
        elif (run / "config.yaml").read_bytes() != self.before:
            _write(run / "config.yaml", self.before, self.written)


def dumped(parser: ArgumentParser, config: Namespace) -> str:
    """A configuration as it was parsed, in YAML: with what is null, since its default may be something else."""
    text: str = parser.dump(config, skip_unset=False, skip_link_targets=False, skip_validation=True)
    return text


def _comparable(
    parser: ArgumentParser, before: Path, settings: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Two configurations by options. What an older version did not know has today's default in both."""
    written = yaml.safe_load(without_former_settings(before.read_text()))
    now = dict(flat(settings))
    known = dict(flat(written))
    with contextlib.redirect_stderr(io.StringIO()):
        try:
            was = dict(flat(yaml.safe_load(dumped(parser, parser.parse_object(written)))))
        except (SystemExit, Exception):  # it has options that are no more: what both know is compared
            both = known.keys() & now.keys()
            return {name: known[name] for name in both}, {name: now[name] for name in now if name in both}
    # older versions left out what was null, whatever its default
    return was | {name: None for name, value in now.items() if value is None and name not in known}, now


def _changes(was: Mapping[str, Any], now: Mapping[str, Any]) -> Changes:
    """What differs; of a class that is another one only what both have."""
    names = [name for name in dict.fromkeys([*was, *now]) if name not in OF_THE_PLACE]
    classes = {name for name in names if any(other.startswith(f"{name}.") for other in names)}
    differ = [
        name
        for name in names
        if not _equal(_named(was.get(name), name in classes), _named(now.get(name), name in classes))
    ]
    other = [f"{name}." for name in differ if name in classes]
    return {
        name: (_named(was.get(name), name in classes), _named(now.get(name), name in classes))
        for name in differ
        if (name in was and name in now) or not name.startswith(tuple(other))
    }


def _named(value: Any, is_class: bool) -> Any:
    return value.rsplit(".", 1)[-1] if is_class and isinstance(value, str) else value


def _equal(was: Any, now: Any) -> bool:
    """However it is spelled: 25 steps are "25" steps."""
    return was == now or (None not in (was, now) and str(was) == str(now))


def _shown(value: Any) -> str:
    return "null" if value is None else str(value)


def _refuse_what_cannot_change(changes: Changes, checkpoint: Path) -> None:
    if "model" in changes:
        was, now = changes["model"]
        raise InputError(
            f"{checkpoint}: of a run of {was}, --model is {now}: go on with {was}, or start a new run from its weights "
            f"with --model.init_from {checkpoint}"
        )
    for name in ("model.init_from", "model.init_weights"):
        was, now = changes.get(name, (None, None))
        if now is None or (was is not None and Path(was).resolve() == Path(now).resolve()):
            continue
        raise InputError(
            f"--{name} was {_shown(was)} when the run began, here it is {now}: a resumed run has the weights of its "
            "checkpoint, so leave it as it was, or start a new run without --ckpt_path"
        )


def _write(path: Path, content: bytes, dated: float | None = None) -> None:
    """The file is the old or the new one at any moment. Given a time, it is as old as that: when the run began."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_bytes(content)
    if dated is not None:
        os.utime(partial, (dated, dated))
    os.replace(partial, path)
