"""Runs on a W&B server, brought here as the folders that ``tenshot fit`` would have left."""

import csv
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from tenshot.errors import InputError

__all__ = ["brought_here", "wandb_path"]

TIMEOUT = 60
"""Seconds that the server may take for an answer."""
STEP = "trainer/global_step"
PICTURES = ("samples", "strips")


def wandb_path(word: str) -> str | None:
    """``entity/project/id`` of what ``wandb:entity/project/id`` or the address of a run's page names; else none.

    Raises:
        InputError: It is of neither form.
    """
    if not re.match(r"wandb:|https?://", word):
        return None
    page = re.fullmatch(r"https?://[^/]+/([^/]+)/([^/]+)/runs/([^/?#]+).*", word)
    parts = page.groups() if page else word.removeprefix("wandb:").split("/")
    if len(parts) != 3 or not all(parts):
        raise InputError(f"{word}: no run on W&B: write wandb:ENTITY/PROJECT/ID, or the address of the run's page")
    return "/".join(parts)


def brought_here(path: str, folder: Path, api: Any = None) -> Path:
    """Write what the comparison reads of a run: configuration, log, evaluations, and the last pictures.

    Args:
        path: ``entity/project/id``
        folder: Where to; the run goes into a folder of its display name, which says what it repeats.
        api: A ``wandb.Api``; by default one with the user's account.

    Returns:
        The run's folder.

    Raises:
        InputError: The server cannot be reached, does not know the run, or it is no run of tenshot.
    """
    import wandb

    try:
        run = (api or wandb.Api(timeout=TIMEOUT)).run(path)
        config = {name: value for name, value in run.config.items() if not name.startswith("_")}
        history = list(run.scan_history())
        target = folder / path.replace("/", "_") / str(run.name)
        target.mkdir(parents=True)
        for file in run.files():
            if re.fullmatch(r"evaluations/[^/]+\.json|data\.json", file.name):
                file.download(root=str(target))
        for kind in PICTURES:
            _last_picture(run, history, kind, target)
    except (wandb.Error, ValueError, OSError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{path}: W&B does not give this run ({reason}): look at the path, or wandb login") from None
    if "model" not in config:
        raise InputError(f"{path}: its configuration on W&B names no model: give a run that tenshot fit logged")
    (target / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    _write_log(history, target / "logs" / "version_0" / "metrics.csv")
    return target


def _last_picture(run: Any, history: Iterable[Mapping[str, Any]], kind: str, target: Path) -> None:
    """Bring the last grid or strip."""
    rows = [row for row in history if isinstance(row.get(kind), Mapping) and row[kind].get("filenames")]
    if not rows:
        return
    [row] = rows[-1:]
    with run.file(row[kind]["filenames"][0]).download(root=str(target), replace=True) as file:
        brought = Path(file.name)
    (target / kind).mkdir()
    brought.rename(target / kind / f"step={int(row[STEP]):08d}.png")


def _write_log(history: Iterable[Mapping[str, Any]], path: Path) -> None:
    """The numbers, a row for each step; what was logged again after a resume replaces what it repeats."""
    rows: dict[int, dict[str, float]] = {}
    for logged in history:
        numbers = {
            name: float(value) for name, value in logged.items()
            if isinstance(value, int | float) and name != STEP and not name.startswith("_")
        }  # fmt: skip
        if numbers and logged.get(STEP) is not None:
            rows.setdefault(int(logged[STEP]), {}).update(numbers)
    columns = sorted({name for row in rows.values() for name in row})
    path.parent.mkdir(parents=True)
    with open(path, "w", newline="") as file:
        table = csv.DictWriter(file, ["step", *columns])
        table.writeheader()
        table.writerows({"step": step, **row} for step, row in sorted(rows.items()))
