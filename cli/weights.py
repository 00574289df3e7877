"""Which weights are drawn from, and what they say of themselves: those of no run too, converted, public or copied."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import Namespace

from tenshot.checkpoints.registry import configurations, method_for, own_words
from tenshot.checkpoints.runs import run_of
from tenshot.checkpoints.shipped import shipped_file
from tenshot.cli.argv import values
from tenshot.models.pretrained import read_checkpoint

__all__ = ["describe_by", "from_weights"]


def from_weights(argv: list[str]) -> list[str]:
    """The arguments of a command line, with ``--model.init_from`` where ``--ckpt_path`` names weights of no run.

    Where nothing else says which method that is, the file does. ``predict`` and ``paint`` need no ``--data``.

    Raises:
        InputError: The file cannot be read, or holds a network that draws nothing.
    """
    if argv[0] not in ("predict", "test", "search", "paint") or {"--help", "-h"} & set(argv):
        return argv
    paths, cascade = values(argv, "--ckpt_path"), _method_told(argv) == "Cascade"
    weights = paths[-1] if paths and not cascade and _is_of_no_run(paths[-1], _told(argv, "model")) else None
    if weights is not None:
        argv = _without(argv, "--ckpt_path")
        kind = [] if _told(argv, "model") else ["--model", method_for(weights)]
        argv = [argv[0], *kind, *argv[1:], "--model.init_from", weights]
    elif paths and not cascade:
        return argv
    if argv[0] in ("predict", "paint") and (cascade or values(argv, "--model.init_from")) and not _told(argv, "data"):
        argv = [*argv, "--data", "tenshot.datamodules.Samples", "--data.count", "1"]  # replaced by --images.count
    return argv


def describe_by(init_args: Namespace, checkpoint: Path) -> None:
    """Let a checkpoint say what network it holds, so that the file the run once started from is not needed."""
    if init_args.get("init_from") is None:
        return
    ours = read_checkpoint(checkpoint).get("tenshot", {})
    for name, fields in configurations(ours).items():
        if name in init_args:
            init_args[name] = _namespace(fields)
    if "source" in init_args and init_args.source is None:
        init_args.source = _where(ours.get("source", {}).get("path"), init_args.init_from)
    init_args.init_from = None
    if "encoder_from" in init_args:
        init_args.encoder_from = None


def _where(recorded: str | None, given: str) -> str:
    """The frozen source: where it was, or, if nothing is there any more, where this configuration says that it is."""
    there = recorded is not None and (shipped_file(recorded) is not None or Path(recorded).exists())
    return given if recorded is None or (not there and Path(given).exists()) else recorded


def _namespace(value: Any) -> Any:
    """Dictionaries within dictionaries as the parser keeps them."""
    return Namespace(**{name: _namespace(part) for name, part in value.items()}) if isinstance(value, dict) else value


def _is_of_no_run(given: str, configured: bool) -> bool:
    """Of a checkpoint of ours: whether it was copied out of its run, and nothing else says what it is of."""
    path = shipped_file(given) or Path(given)
    if not path.is_file():
        return False
    alone = run_of(path) is None and not configured
    return alone or path.suffix == ".safetensors" or own_words(path, read_checkpoint(path)) is None


def _told(argv: Sequence[str], group: str) -> bool:
    """Whether the arguments, or a configuration they name, choose a class for ``--model`` or ``--data``."""
    if values(list(argv), f"--{group}", f"--{group}.class_path"):
        return True
    return any(group in config for config in _configurations(argv))


def _method_told(argv: Sequence[str]) -> str | None:
    """The method that the arguments, or a configuration they name, choose."""
    named = values(list(argv), "--model", "--model.class_path")
    models = (config.get("model") for config in _configurations(argv))
    named = named or [str(model["class_path"]) for model in models if isinstance(model, dict) and "class_path" in model]
    return named[-1].rsplit(".", 1)[-1] if named else None


def _configurations(argv: Sequence[str]) -> list[dict[str, Any]]:
    """What the configurations hold that the arguments name."""
    files = (Path(path) for path in values(list(argv), "--config", "-c"))
    return [yaml.safe_load(path.read_text()) or {} for path in files if path.is_file()]


def _without(argv: list[str], option: str) -> list[str]:
    kept: list[str] = []
    after = False
    for arg in argv:
        if not after and arg != option and not arg.startswith(f"{option}="):
            kept.append(arg)
        after = arg == option
    return kept
