"""Weights & Biases: one run there for one run here, found by task and method, and no reason to stop."""

import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.utilities import rank_zero_info

from tenshot.run.best_effort import best_effort
from tenshot.run.run_log import IN_FIT, SPEEDS

__all__ = ["RunWandb"]

INIT_TIMEOUT = 30.0


class RunWandb(WandbLogger):
    """Lightning's W&B logger with the conventions of this project.

    Group is the task (the target domain or the folder of images), job type the method, tags the method, the number of
    shots and the size. The id is drawn once and kept in ``wandb_id.txt`` in the run's folder, so a resumed or requeued
    run goes on in the same W&B run. A server that cannot be reached, or a missing account, is one line: the run goes on
    offline, and ``wandb sync`` sends it later.

    Args:
        project: On W&B; also $WANDB_PROJECT.
        entity: Account or team; by default the user's own.
        offline: Do not look for a server. Needs no account; also $WANDB_MODE=offline.
        name: Shown; by default the last two parts of the run's folder.
        group: By default the task.
        job_type: By default the method.
        tags: Besides those of the project.
    """

    def __init__(
        self,
        project: str = "tenshot",
        entity: str | None = None,
        offline: bool = False,
        name: str | None = None,
        group: str | None = None,
        job_type: str | None = None,
        tags: list[str] | None = None,
    ) -> None:
        super().__init__(
            project=os.environ.get("WANDB_PROJECT", project), entity=entity, name=name, group=group, job_type=job_type,
            tags=tags or [],
            offline=offline or os.environ.get("WANDB_MODE") in ("offline", "dryrun"),
        )  # fmt: skip

    def describe(self, folder: Path, config: Mapping[str, Any]) -> None:
        """Name the run after what it is, where the user has not; before it begins.

        Args:
            folder: Of the run; W&B's own files go there too.
            config: Of the command, merged.
        """
        method = config["model"]["class_path"].rpartition(".")[2]
        data = (config.get("data") or {}).get("init_args", {})
        shots, size = data.get("shots"), data.get("image_size")
        task = data.get("domain") or Path(data.get("root") or "none").name
        tags = [method, *([f"{shots}-shot"] if shots else []), *([f"{size}px"] if size else [])]
        settings = self._wandb_init
        settings["name"] = self._name = settings["name"] or "/".join(folder.parts[-2:])
        settings["group"] = settings["group"] or task
        settings["job_type"] = settings["job_type"] or method
        settings["tags"] = [*settings["tags"], *(tag for tag in tags if tag not in settings["tags"])]
        settings["dir"] = self._save_dir = str(folder)

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """The W&B run, begun at the first use, offline if it must be."""
        if self._experiment is not None:
            return self._experiment
        import wandb

        folder = Path(self._save_dir or ".")
        folder.mkdir(parents=True, exist_ok=True)
        self._wandb_init |= {"id": self._stable_id(folder), "settings": wandb.Settings(init_timeout=INIT_TIMEOUT)}
        self._id = self._wandb_init["id"]
        try:
            run = super().experiment
        except wandb.Error as error:
            reason = str(error).splitlines()[0]
            rank_zero_info(f"W&B cannot be reached ({reason}): going on offline; send it later with wandb sync")
            wandb.teardown()  # its service believes that the run goes on
            self._offline, self._wandb_init["mode"] = True, "offline"
            run = super().experiment
        run.define_metric("train/loss", step_metric="trainer/global_step", summary="last")
        for name in ("val/loss", "val/bits_per_dim"):
            run.define_metric(name, step_metric="trainer/global_step", summary="min")
        for name, summary in SPEEDS.items():
            run.define_metric(name, step_metric="trainer/global_step", summary=summary)
        return run

    def _stable_id(self, folder: Path) -> str:
        path = folder / "wandb_id.txt"
        if path.exists():
            return path.read_text().strip()
        drawn = secrets.token_hex(4)
        with best_effort(str(path)):
            path.write_text(drawn + "\n")
        return drawn

    def summarise(self, better: Mapping[str, bool | None]) -> None:
        """Keep the best value of each evaluation in the run's summary.

        Args:
            better: Name in the table -> whether more is better; none: neither is.
        """
        for name, more in better.items():
            best = {True: "max", False: "min", None: "last"}[more]
            self.experiment.define_metric(f"{IN_FIT}/{name}", step_metric="trainer/global_step", summary=best)

    def finalize(self, status: str) -> None:
        """End the W&B run; a later use goes on in it."""
        super().finalize(status)
        if self._experiment is not None:
            self._experiment.finish(exit_code=0 if status == "success" else 1)
            self._experiment = None
