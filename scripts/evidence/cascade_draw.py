"""The pictures of cascades in docs/evidence.md: the curves over s, and samples."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
from torch import Tensor

from .attributes import images_in
from .cascade_page import curves
from .cascades import NAME
from .draw import COLUMNS, shots, side_by_side
from .plan import Run
from .results import Row


def s_curves(rows: Sequence[Row], folder: Path) -> None:
    """The Fréchet distance of the first stage's images against s, a line a seed."""
    figure, axes = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for place, kind in zip(axes, ("generated", "true"), strict=True):
        for seed, curve in curves(rows, kind).items():
            place.plot(list(curve), list(curve.values()), "o-", label=f"seed {seed}")
        place.set_title(f"{kind} small images")
        place.set_xlabel("s")
        place.set_ylabel("Fréchet distance at 32 px")
        place.grid(alpha=0.3)
    if axes[0].lines:
        axes[0].legend(fontsize=8)
    figure.savefig(folder / "evidence_cascades_s.png", dpi=100, bbox_inches="tight")
    plt.close(figure)


def cascade_grids(runs: Sequence[Run], folder: Path) -> None:
    """For each target the first samples of all that is compared, of the first seed."""
    rows: dict[str, dict[str, Tensor]] = {}
    for run in (run for run in runs if run.of.name == NAME and run.seed == run.scale.seeds[0]):
        for name, where in run.measured.items():
            images = run.folder / where / "images"
            if run.group_of(name) == "methods" and (images / f"{COLUMNS - 1:06d}.png").exists():
                first = {"ten shots": shots(run)} if run.target == "sunglasses" else {}
                rows.setdefault(run.target, first)[name] = images_in(images)[:COLUMNS]
    for target, drawn in rows.items():
        side_by_side(drawn).save(folder / f"evidence_cascades_{target}.png", optimize=True)
