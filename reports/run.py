"""One run as its folder tells it: configuration, evaluations, and where its images are."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from tenshot.callbacks.drawn_folder import RECORD
from tenshot.datamodules.batches import CONDITION_IMAGE
from tenshot.datamodules.conditions import BY_NAME
from tenshot.datamodules.files import is_hidden
from tenshot.errors import InputError

__all__ = ["Evaluation", "Key", "Run", "flat", "read_run"]

SCHEMA = 1

Evaluation = dict[str, Any]
"""The file that docs/evaluation.md describes."""


Key = int | str
"""Of an image of a run: its number, or its name where that is the one of a condition."""


@dataclass(frozen=True)
class Run:
    """A folder that ``tenshot fit`` or ``tenshot test`` wrote.

    Args:
        folder: As the user named it.
        raw: ``config.yaml``; empty for images of another program, which ``tenshot test`` measured in a folder.
        evaluations: What ``evaluations/`` holds, the earliest step first.
    """

    folder: Path
    raw: dict[str, Any]
    evaluations: list[Evaluation]

    @cached_property
    def config(self) -> dict[str, Any]:
        """``raw`` with dotted names: ``model`` is the class, ``model.optimizer.lr`` one of its options."""
        return dict(flat(self.raw)) if self.raw else {}

    @property
    def method(self) -> str | None:
        """Name of the class."""
        if "model" in self.config:
            return str(self.config["model"]).rsplit(".", 1)[-1]
        return str(self.evaluations[-1]["method"]) if self.evaluations else None

    @property
    def seed(self) -> int | None:
        """That of training, where the configuration says one."""
        seed = self.config.get("seed_everything")
        return seed if isinstance(seed, int) and not isinstance(seed, bool) else None

    @property
    def evaluation(self) -> Evaluation | None:
        """The one that counts: of the most samples; of these the last step; the most values; the newest."""
        key = lambda e: (e["samples"], e["step"], len(e["values"]), e["date"])  # noqa: E731
        return max(self.evaluations, key=key, default=None)

    @cached_property
    def drawn_by(self) -> dict[str, Any]:
        """What ``images/`` says of what drew them; empty where it says nothing."""
        try:
            content = json.loads((self.folder / "images" / RECORD).read_text())
        except (OSError, ValueError):
            return {}
        return content if isinstance(content, dict) and isinstance(content.get("depends_on"), dict) else {}

    @property
    def drawn_from(self) -> str | None:
        """What that says of the condition images that they were drawn from; None where there were none."""
        return self.drawn_by.get("depends_on", {}).get(f"{CONDITION_IMAGE}_of")

    @cached_property
    def images(self) -> dict[Key, Path]:
        """The images of ``images/`` by their numbers, or by their names where these are those of conditions."""
        folder = self.folder / "images"
        if self.drawn_from == BY_NAME:
            files = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*.png"))}
            return {name.removesuffix(".png"): path for name, path in files.items() if not is_hidden(name)}
        return {int(path.stem): path for path in sorted(folder.glob("*.png")) if path.stem.isdigit()}

    def last(self, kind: str) -> Path | None:
        """The newest image of ``samples/`` or ``strips/``."""
        return max((self.folder / kind).glob("step=*.png"), default=None)


def read_run(folder: Path) -> Run:
    """Read a run's folder.

    Raises:
        InputError: It is no run's folder, or a file of it cannot be read.
    """
    if not folder.is_dir():
        found = "is a file" if folder.exists() else "there is no such folder"
        raise InputError(f"{folder}: {found}: give the folders of runs")
    config, results = folder / "config.yaml", sorted((folder / "evaluations").glob("*.json"))
    if not config.is_file() and not results:
        below = sorted({file.parent for file in folder.glob("*/config.yaml")})
        hint = f": did you mean {below[0]}{' and others' * (len(below) > 1)}?" if below else ""
        raise InputError(
            f"{folder}: not a run, it holds neither config.yaml nor evaluations/: give a folder that tenshot fit or "
            f"tenshot test wrote{hint}"
        )
    configuration = _config(config) if config.is_file() else {}
    return Run(folder, configuration, sorted(map(_evaluation, results), key=lambda e: (e["step"], e["date"])))


def _config(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise InputError(f"{path}: cannot be read ({type(error).__name__}): mend it or leave the run out") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: holds no options: mend it or leave the run out")
    return content


def _evaluation(path: Path) -> Evaluation:
    try:
        content = json.loads(path.read_text())
    except (ValueError, OSError) as error:
        raise InputError(f"{path}: cannot be read ({type(error).__name__}): run tenshot test again") from None
    schema = content.get("schema") if isinstance(content, dict) else None
    if schema != SCHEMA:
        raise InputError(f"{path}: has schema {schema!r}, this version reads {SCHEMA}: run tenshot test again")
    missing = [key for key in ("method", "samples", "step", "date", "values", "metrics") if key not in content]
    if missing:
        raise InputError(f"{path}: lacks {', '.join(missing)}: run tenshot test again")
    return content


def flat(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Leaves with dotted names; ``class_path`` and ``init_args`` vanish into the name of what they describe.

    Classes of tenshot's have their short name, for they were written with a longer path before ``tenshot`` had them.
    """
    if not isinstance(value, dict) or not value:
        yield name, value
        return
    for key, inner in value.items():
        part = "" if key in ("class_path", "init_args") else str(key)
        if key == "init_args" and not inner:
            continue
        if key == "class_path" and str(inner).startswith("tenshot."):
            inner = str(inner).rsplit(".", 1)[-1]
        yield from flat(inner, f"{name}.{part}".strip("."))
