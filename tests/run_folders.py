"""Run folders made by hand, as ``tenshot fit`` and ``tenshot test`` leave them, without training anything."""

import csv
import json
import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

START = datetime(2026, 1, 1, tzinfo=UTC).timestamp()


def config(seed: int = 1, **model: Any) -> dict[str, Any]:
    """A merged configuration on ten drawn sunglasses."""
    return {
        "seed_everything": seed,
        "trainer": {"accelerator": "cpu", "devices": "auto", "num_nodes": 1, "default_root_dir": f"/old/seed{seed}"},
        "model": {"class_path": "tenshot.lightning_modules.DDPM", "init_args": {"vlb_weight": 0.001} | model},
        "data": {
            "class_path": "tenshot.datamodules.SyntheticFaces",
            "init_args": {
                "domain": "sunglasses", "image_size": 16, "batch_size": 4, "num_images": 50, "shots": 3, "num_val": 0,
                "flip": True, "seed": 1,
            },
        },
        "grid": {"seed": 0},
        "images": {"seed": 0},
    }  # fmt: skip


def evaluation(
    step: int,
    frechet: float | None,
    intra: float | None,
    *,
    samples: int = 200,
    reference: str = "1000 drawn sunglasses",
) -> dict[str, Any]:
    """The file of an evaluation, with two metrics."""
    drawn = {"n_generated": samples, "weights_sha256": "a" * 64}
    metrics: dict[str, dict[str, Any]] = {
        "frechet": {"values": {"fid": frechet}, "settings": drawn | {"n_real": 1000}, "details": {}},
        "intra_lpips": {
            "values": {"intra_lpips": intra, "intra_lpips_std": 0.5},
            "settings": drawn | {"n_real": 3, "size": [16, 16], "weights_sha256": {"trunk": "b" * 64}},
            "details": {},
        },
    }
    return {
        "schema": 1, "method": "DDPM", "title": "x", "checkpoint": None, "step": step, "weights": "averaged",
        "sampler": {"method": "ddim", "steps": 10}, "samples": samples, "seed": 0, "shots": "3 drawn sunglasses",
        "reference": reference, "values": {}, "metrics": metrics, "code": "abc", "date": "2026-01-01T00:30:00+00:00",
    }  # fmt: skip


def random_images(count: int, seed: int, side: int = 16) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def make_run(
    folder: Path,
    configuration: Mapping[str, Any] | None = None,
    evaluations: Sequence[Mapping[str, Any]] = (),
    images: np.ndarray | None = None,
    log: Sequence[Mapping[str, float]] = (),
    minutes: float | None = 20,
) -> Path:
    """Write a run; its files are as old as training for so many minutes makes them."""
    for name in ("checkpoints", "evaluations", "images", "logs/version_0"):
        (folder / name).mkdir(parents=True)
    if configuration is not None:
        (folder / "config.yaml").write_text(yaml.safe_dump(dict(configuration)))
        os.utime(folder / "config.yaml", (START, START))
    if minutes is not None:
        checkpoint = folder / "checkpoints" / "step=00000300.ckpt"
        checkpoint.touch()
        os.utime(checkpoint, (START + 60 * minutes,) * 2)
    for result in evaluations:
        path = folder / "evaluations" / f"step={result['step']:08d}.json"
        path.write_text(json.dumps(result))
        written = datetime.fromisoformat(str(result["date"])).timestamp()
        os.utime(path, (written, written))
    for number, pixels in enumerate([] if images is None else images):
        Image.fromarray(pixels).save(folder / "images" / f"{number:06d}.png")
    if log:
        columns = sorted({name for row in log for name in row})
        with open(folder / "logs/version_0/metrics.csv", "w", newline="") as file:
            table = csv.DictWriter(file, columns)
            table.writeheader()
            table.writerows(log)
    return folder
