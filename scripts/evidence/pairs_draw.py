"""The pictures of PITI in docs/evidence.md: conditions, true images, and what is drawn of them."""

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from tenshot.datamodules import SyntheticFaces
from tenshot.datamodules.batches import CONDITION_IMAGE

from .attributes import images_in
from .draw import COLUMNS, side_by_side
from .pairs import DOMAINS, LARGE, PAIRS
from .pairs_runs import PairsRun
from .plan import Run
from .sets import SIZE


def as_large(images: Tensor) -> Tensor:
    """uint8 (N, 3, s, s)  ->  (N, 3, 64, 64), each pixel repeated; more than there are columns are left out."""
    times = SIZE // images.shape[-1]
    return images[:COLUMNS].repeat_interleave(times, dim=2).repeat_interleave(times, dim=3)


def conditions(run: PairsRun) -> dict[str, Tensor]:
    """What the first samples are drawn from, and the true images of it, uint8 (12, 3, 64, 64) each."""
    size, kind = PAIRS.size(run.target), "sketch" if run.target == "sketch" else "mask"
    data = SyntheticFaces(
        domain=DOMAINS[run.target], pairs=kind, image_size=size, num_val=run.conditions, seed=run.seed
    )  # fmt: skip
    source = data.sources()[1]
    assert source is not None
    pairs = source.read([number % run.conditions for number in range(COLUMNS)])
    shown = pairs[CONDITION_IMAGE]
    if kind == "sketch":  # distances: black where there is a line
        shown = ((shown > 0) * 255).to(shown.dtype).expand(-1, 3, -1, -1)
    return {"condition": as_large(shown), "true image": as_large(pairs["image"])}


def pair_grids(runs: Sequence[Run], folder: Path) -> None:
    """For each target, and for guidance, the first samples of all that is compared, of the first seed."""
    pictures: dict[str, dict[str, Tensor]] = {}
    own = [run for run in runs if isinstance(run, PairsRun) and run.method is not None and run.measured]
    for run in (run for run in own if run.seed == run.scale.seeds[0]):
        for name, where in run.measured.items():
            images = run.folder / where / "images"
            if not (images / f"{COLUMNS - 1:06d}.png").exists():
                continue
            drawn = as_large(images_in(images))
            if run.target not in pictures:
                pictures[run.target] = conditions(run)
                if run.target == LARGE:
                    pictures[run.target]["what is enlarged"] = as_large(images_in(run.small))
            if run.group_of(name) == "methods":
                pictures[run.target][name] = drawn
            else:
                shown = pictures.setdefault("guidance", conditions(run))
                shown.setdefault("w = 0", pictures[run.target][run.name])
                shown[name] = drawn
    for name, rows in pictures.items():
        side_by_side(rows).save(folder / f"evidence_pairs_{name}.png", optimize=True)
