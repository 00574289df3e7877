"""A cascade on drawn faces, 16 -> 32 -> 64 px: base and stages are trained, then it draws; an image of all three sizes.

Run by ``make cascade``. Each stage is the ``tenshot`` commands that it prints, two at a time on a CPU of two cores or
more. What is finished is not done again, and a run that was stopped goes on from its last checkpoint. Ends in
runs/cascade/faces64/grid.png (or TENSHOT_CASCADE): a column an image, the small one above, what the stages made of it
below. With ``--few-shot`` (``make cascade-adapt``) all three are then adapted to ten images, and the adapted cascade
draws too, into runs/cascade/faces64_sunglasses.
"""

import argparse
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
import yaml
from PIL import Image
from safetensors.torch import load_file
from stages import Stage, StageFailed, lanes, run_stages
from torch import Tensor
from torchvision.transforms.functional import pil_to_tensor

from tenshot.callbacks.image_writer import to_uint8, write_png

RECIPE, FEW_SHOT = "configs/cascade/faces64.yaml", "configs/cascade/faces64_sunglasses.yaml"
TRAINED = {  # the longest first
    "stage 64 px": "configs/super_resolution/faces64.yaml",
    "stage 32 px": "configs/super_resolution/faces32.yaml",
    "base 16 px": "configs/ddpm/faces16_source.yaml",
}
ADAPTED = {
    "adapted stage 64 px": "configs/super_resolution/faces64_sunglasses.yaml",
    "adapted stage 32 px": "configs/super_resolution/faces32_sunglasses.yaml",
    "adapted base 16 px": "configs/ddpm_pa/faces16_sunglasses.yaml",
}
COUNT, COLUMNS = 16, 8


def stages_of(recipes: Mapping[str, str], root: Path, device: Sequence[str]) -> list[Stage]:
    """What is to be trained, each in the folder that its recipe names."""
    stages = []
    for name, recipe in recipes.items():
        run = yaml.safe_load(Path(recipe).read_text())["trainer"]["default_root_dir"]
        fit = ("fit", "--config", recipe, "--trainer.default_root_dir", run, "--ckpt_path", "last", *device)
        stages.append(Stage(name, (fit,), root / name.replace(" ", "_")))
    return stages


def drawing(recipe: str, root: Path, device: Sequence[str]) -> Stage:
    """A cascade, which keeps what its base and its first stage draw."""
    words = ("predict", "--config", recipe, "--images.count", str(COUNT), "--images.keep_stages", str(root / "kept"),
             "--images.dir", str(root / "images"), "--trainer.default_root_dir", str(root))  # fmt: skip
    return Stage("cascade", ((*words, *device),), root / "drawing")


def grid(root: Path) -> Tensor:
    """The images of base and stages, each size in a row of its own: (3, H, W) uint8."""
    last = torch.stack([pil_to_tensor(Image.open(root / f"images/{i:06d}.png")) for i in range(COUNT)])
    sizes = [
        torch.stack([load_file(root / f"kept/{name}/{i:06d}.safetensors")["image"] for i in range(COUNT)])
        for name in ("base", "stage0")
    ]
    large = (F.interpolate(images, last.shape[-2:], mode="nearest") for images in sizes)
    every = [*(to_uint8(images).permute(0, 3, 1, 2) for images in large), last]
    rows = [images[begin : begin + COLUMNS] for begin in range(0, COUNT, COLUMNS) for images in every]
    return torch.cat([torch.cat(list(row), dim=2) for row in rows], dim=1)


def main() -> None:
    """Train what is not trained, draw, show."""
    parser = argparse.ArgumentParser(prog="cascade.py", description=__doc__)
    parser.add_argument("--few-shot", action="store_true", help="then adapt it to ten images, and draw")
    few_shot: bool = parser.parse_args().few_shot
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped; the same command goes on"))  # and the stages with it
    root = Path(os.environ.get("TENSHOT_CASCADE", "runs/cascade/faces64"))
    device = ("--trainer.accelerator", "gpu", "--trainer.devices", "1") if torch.cuda.is_available() else ()
    cascades = [(TRAINED, RECIPE, root)]
    cascades += [(ADAPTED, FEW_SHOT, root.with_name(f"{root.name}_sunglasses"))] if few_shot else []
    at_a_time, threads = lanes()
    try:
        for recipes, recipe, folder in cascades:
            for _ in run_stages(stages_of(recipes, folder, device), at_a_time, threads):
                pass
            for _ in run_stages([drawing(recipe, folder, device)], 1, None):
                pass
            write_png(grid(folder).permute(1, 2, 0), folder / "grid.png")
            print(f"the picture: {folder / 'grid.png'}")
    except StageFailed as error:
        sys.exit(f"cascade.py: error: {error}")
    except KeyboardInterrupt:
        sys.exit("\nstopped; the same command goes on")


if __name__ == "__main__":
    main()
