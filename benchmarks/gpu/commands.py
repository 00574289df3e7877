"""The command line in this process, as a user types it, and the small configurations of the checks."""

import csv
import io
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import torch
import yaml

from benchmarks.gpu.record import Context, Values
from tenshot.cli import main

UNET = {
    "image_size": 32, "channels": 32, "channel_mult": [1, 2, 2], "num_res_blocks": 1, "attention_resolutions": [8],
    "head_channels": 32, "resample": "conv",
}  # fmt: skip
STYLEGAN2 = {"image_size": 32, "channel_base": 1024, "max_channels": 64, "latent_dim": 64, "mapping_layers": 4}
SMALL_STYLEGAN2 = {"image_size": 32, "channel_base": 256, "max_channels": 16, "latent_dim": 8, "mapping_layers": 2}
ADAM = {"class_path": "torch.optim.AdamW", "init_args": {"lr": 1.0e-4, "weight_decay": 0.0, "fused": True}}
DDIM = {"method": "ddim", "steps": "ddim5"}
GAN_ADAM = {"class_path": "GANAdam", "init_args": {"lr": 2.0e-3, "fused": True}}
Config = dict[str, Any]


def tenshot(*argv: str | Path) -> str:
    """Run a command in this process.

    Returns:
        What it printed.

    Raises:
        Exception: Whatever ended it, not only its one line.
    """
    printed = io.StringIO()
    os.environ["TENSHOT_DEBUG"] = "1"
    with redirect_stdout(printed), redirect_stderr(printed), own_environment():
        main([str(arg) for arg in argv])
    return printed.getvalue()


@contextmanager
def own_environment() -> Iterator[None]:
    """A process group, ranks and ports that a run leaves behind would be found by the next."""
    before = dict(os.environ)
    try:
        yield
    finally:
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
        os.environ.clear()
        os.environ.update(before)


def diffusion(context: Context, name: str = "DDPM", **arguments: Any) -> Config:
    """Model of a diffusion method with a small network."""
    unet = UNET | ({"channel_mult": [1], "attention_resolutions": []} if context.dry else {})
    start: Config = {} if "init_from" in arguments else {"unet": unet}
    sampling = {"sampler": DDIM, "preview_sampler": {"method": "dpm_solver", "steps": "4"}}
    return {"class_path": name, "init_args": start | {"optimizer": ADAM} | sampling | arguments}


def gan(context: Context, name: str = "StyleGAN2", **arguments: Any) -> Config:
    """Model of a GAN method with small networks."""
    start: Config = {} if "init_from" in arguments else {"stylegan2": SMALL_STYLEGAN2 if context.dry else STYLEGAN2}
    often = {"r1_every": 4, "path_length_every": 2}
    return {
        "class_path": name,
        "init_args": start | {"optimizer_g": GAN_ADAM, "optimizer_d": GAN_ADAM, "regularization": often} | arguments,
    }


def config_file(
    context: Context, model: Config, steps: int, data: Config | None = None, probe: Path | None = None, **more: Any
) -> Path:
    """Write the configuration of a run on drawn faces of 32 px; each call another file.

    Args:
        context: Whose device it is for.
        model: As ``diffusion`` and ``gan`` give it.
        steps: Of the run.
        data: The whole ``data`` group, or nothing for drawn faces.
        probe: Where ``Probe`` writes what it sees.
        more: Further options of the trainer.
    """
    trainer: Config = {
        "max_steps": steps, "accelerator": "cpu" if context.dry else "gpu", "devices": 1, "log_every_n_steps": 5,
        "enable_progress_bar": False, "enable_model_summary": False,
    }  # fmt: skip
    if probe is not None:
        trainer["callbacks"] = [{"class_path": "benchmarks.gpu.probe.Probe", "init_args": {"path": str(probe)}}]
    whole = {
        "model": model,
        "data": data or faces(batch_size=4 if context.dry else 16),
        "trainer": trainer | more,
        "grid": {"every_n_steps": 0},
        "checkpoint": {"every_n_steps": 1000},
    }
    path = context.folder / f"config{len(list(context.folder.glob('config*.yaml')))}.yaml"
    path.write_text(yaml.safe_dump(whole))
    return path


def faces(**arguments: Any) -> Config:
    """Drawn faces with other options."""
    common = {"image_size": 32, "batch_size": 4, "num_images": 64, "num_val": 0}
    return {"class_path": "SyntheticFaces", "init_args": common | arguments}


def source_of(context: Context, model: Config) -> Path:
    """A run of a few steps to adapt; dry, one for all stages, which are in one process."""
    run = (context.folder.parent if context.dry else context.folder) / f"source_{model['class_path']}"
    if not run.exists():
        tenshot("fit", "--config", config_file(context, model, 2), "--trainer.default_root_dir", run)
    return run


def logged(run: Path) -> Values:
    """What a run's log holds last of each loss, none of which may be missing or not finite.

    Raises:
        AssertionError: One is.
    """
    with (run / "logs" / "version_0" / "metrics.csv").open(newline="") as file:
        rows = [{name: cell for name, cell in row.items() if cell} for row in csv.DictReader(file)]
    last: Values = {}
    for row in rows:
        last |= {name: float(cell) for name, cell in row.items() if name.startswith(("train/", "val/", "speed/peak"))}
    bad = [name for name, value in last.items() if not math.isfinite(value)]
    assert last, f"{run}: nothing was logged"
    assert not bad, f"not finite: {', '.join(bad)}"
    return last


def checkpoint(run: Path) -> Values:
    """The newest checkpoint of a run that is a file."""
    newest = max((run / "checkpoints").glob("step=*.ckpt"))
    content: Values = torch.load(newest, map_location="cpu", weights_only=True)
    return content
