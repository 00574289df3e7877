"""A run that stopped and went on ends as one that did not: to the last bit where deterministic, nearly where not."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from benchmarks.gpu.commands import Config, checkpoint, config_file, diffusion, faces, gan, source_of, tenshot
from benchmarks.gpu.compared import difference
from benchmarks.gpu.record import Context, Values

STOP, END = 3, 6
DRY_STOP, DRY_END = 1, 2
NEARLY = 0.05
"""How far, of its norm, a part of a checkpoint may be off where sums on the device are not deterministic."""
PARTS = ("state_dict", "ema", "optimizer_states")


def run(context: Context, part: str) -> None:
    """A part: ``ddpm``, ``ddpmpa`` or ``stylegan2``; deterministic, DDPM's run also validates around its stop."""
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"  # read once by each process
    source: list[Path] = []
    if part == "ddpmpa":
        with context.check("resume", "source of ddpmpa"):
            source.append(source_of(context, diffusion(context)))
        if not source:
            return
    models: dict[str, Config] = {
        "ddpm": diffusion(context),
        "ddpmpa": diffusion(context, "DDPMPA", init_from=str(*source)),
        "stylegan2": gan(context),
    }
    for deterministic in (True,) if context.dry else (True, False):
        how = "deterministic" if deterministic else "as it is"
        context.run(
            "resume", f"{part} {how}", lambda d=deterministic: compared(context, part, models[part], deterministic=d)
        )


def compared(context: Context, part: str, model: Config, deterministic: bool) -> Values:
    """Train whole and in two parts, and compare."""
    more: Config = {"deterministic": deterministic, "log_every_n_steps": 1}
    stop, end = (DRY_STOP, DRY_END) if context.dry else (STOP, END)
    data = faces(batch_size=4)
    if part == "ddpm" and deterministic:  # the average must be moved to the device, and be trained with, all the same
        data = faces(batch_size=4, num_val=4)
        more |= {"val_check_interval": stop, "check_val_every_n_epoch": None, "num_sanity_val_steps": 1}
    if not context.dry:
        more["precision"] = "bf16-mixed"
    config = config_file(context, model, end, data, **more)
    whole, halves = (context.folder / f"{part}_{name}_{deterministic}" for name in ("whole", "halves"))
    argv = ["fit", "--config", config, "--trainer.default_root_dir"]
    tenshot(*argv, whole)
    tenshot(*argv, halves, "--trainer.max_steps", str(stop))
    tenshot(*argv, halves, "--ckpt_path", "last")
    ours, theirs = checkpoint(halves), checkpoint(whole)
    assert ours["global_step"] == theirs["global_step"] == end
    assert ours["ema"]["updates"] == theirs["ema"]["updates"] == end
    values: Values = {}
    for name in PARTS:
        pairs = list(tensors(ours[name], theirs[name]))
        assert pairs, f"no tensors in {name}"
        values[name] = max(difference(a, b) for a, b in pairs)
    most = 0.0 if deterministic else NEARLY
    far = {name: error for name, error in values.items() if not error <= most}
    assert not far, f"the resumed run differs: {far}"
    return values


def tensors(ours: Any, theirs: Any) -> Any:
    """Pairs of the tensors of two trees of one shape."""
    if isinstance(theirs, Tensor):
        yield ours, theirs
    elif isinstance(theirs, Mapping):
        assert ours.keys() == theirs.keys()
        for key in theirs:
            yield from tensors(ours[key], theirs[key])
    elif isinstance(theirs, list | tuple):
        for a, b in zip(ours, theirs, strict=True):
            yield from tensors(a, b)
