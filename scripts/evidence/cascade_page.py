"""What docs/evidence.md says of cascades, between markers: what the rows say, and nothing else."""

import textwrap
from collections.abc import Callable, Sequence

from tenshot.diffusion import Augmentation, Corruption, LowResNoise

from .cascades import BASE, BASE_STEPS, CURVE, DRAWN_AT, FEW, FEW_ONE, ONE, STAGES, Training
from .plan import FULL, SEEDS
from .results import Row
from .tables import cell, table

PAIRS = (
    ("one model", "cascade, no augmentation", "(paper: better)"),
    ("cascade", "cascade, no augmentation", "(paper: better)"),
    ("cascade", "one model", "(paper: better)"),
    ("few-shot cascade", "few-shot one model", "(nobody has compared them)"),
)  # fmt: skip
"""The first is to have the smaller distance than the second."""


def distances(rows: Sequence[Row], method: str) -> dict[str, float]:
    """Fréchet distance by seed."""
    return {row["seed"]: float(row["fd"]) for row in rows if row["method"] == method and row.get("fd")}


def curves(rows: Sequence[Row], kind: str) -> dict[str, dict[int, float]]:
    """By seed the Fréchet distance by s, of ``generated`` or of ``true`` conditions."""
    found: dict[str, dict[int, float]] = {}
    for s in CURVE:
        for seed, value in distances(rows, f"{kind}, s = {s}").items():
            found.setdefault(seed, {})[s] = value
    return found


def has_inner_minimum(curve: dict[int, float]) -> bool:
    """Whether the smallest value is neither of the first nor of the last s."""
    return min(curve, key=lambda s: curve[s]) not in (min(curve), max(curve))


def is_monotone(curve: dict[int, float]) -> bool:
    """Whether the values grow with s."""
    values = [curve[s] for s in sorted(curve)]
    return values == sorted(values)


def _protocol(rows: Sequence[Row]) -> str:
    hours = sum(float(row["minutes"]) for row in rows) / 60

    def told(parts: Sequence[Training]) -> str:
        return ", ".join(f"{part.size} px {part.steps} steps of {part.batch}" for part in parts)

    text = (
        f"Base and stages are trained on all drawn faces ({told((BASE, *STAGES))} images), with noise in what the "
        f"stages enlarge and without; the one model for as long by estimate ({told((ONE,))}). All are adapted to ten "
        "images with sunglasses, base and one model by DDPM-PA, stages by fine-tuning with noise "
        f"({told(FEW)}; {told((FEW_ONE,))}). Cascades draw with s = {DRAWN_AT[32]} and {DRAWN_AT[64]}, "
        f"base and first stage by {BASE_STEPS * FULL.sampler_steps} steps of DDIM, the last stage and the one model by "
        f"{FULL.sampler_steps} of DPM-Solver++. {FULL.samples} samples, compared with 1000 other images by "
        "EfficientNet-Lite0's features; mean ± standard deviation over n seeds. Each measurement with the training "
        f"before it, that of the base left out, {hours:.1f} hours of one core."
    )
    return f"## Cascades on drawn faces\n\n{textwrap.fill(text, 120, break_on_hyphens=False)}\n"


def _picture(rows: Sequence[Row]) -> str:
    if not any(row["seed"] == str(SEEDS[0]) and row["group"] == "methods" for row in rows):
        return ""  # nothing is drawn yet
    target = rows[0]["target"]
    return f"The first samples, seed {SEEDS[0]}:\n\n![Samples of {target}](images/evidence_cascades_{target}.png)\n"


def _curve(rows: Sequence[Row]) -> str:
    """The first stage by s, of both kinds of small images side by side."""
    corruption = Corruption(Augmentation(noise=LowResNoise(num_steps=1000, schedule="cosine")))
    lines = ["| first stage, FD at 32 px | from generated images | from true ones |", "|---|---|---|"]
    for s in CURVE:
        cells = [cell(list(distances(rows, f"{kind}, s = {s}").values()), 2) for kind in ("generated", "true")]
        lines.append(f"| {corruption.told(s)} | {cells[0]} | {cells[1]} |")
    return "\n".join(lines) + "\n\n![Fréchet distance against s](images/evidence_cascades_s.png)\n"


def _order(rows: Sequence[Row]) -> str:
    """What the paper expects, and in how many seeds it was found."""
    lines = ["| smaller FD, or as said | in how many seeds |", "|---|---|"]
    for first, second, paper in PAIRS:
        one, other = distances(rows, first), distances(rows, second)
        both = one.keys() & other.keys()
        if both:
            wins = sum(one[seed] < other[seed] for seed in both)
            lines.append(f"| {first} than {second} {paper} | {wins} of {len(both)} |")
    whole, truncated = distances(rows, "cascade"), distances(rows, "cascade, truncated")
    if both := whole.keys() & truncated.keys():
        apart = cell([truncated[seed] - whole[seed] for seed in sorted(both)], 2)
        lines.append(f"| FD truncated less non-truncated (paper: about 0) | {apart} |")
    shapes: tuple[tuple[str, str, Callable[[dict[int, float]], bool]], ...] = (
        ("generated", "its minimum inside", has_inner_minimum), ("true", "growing with s", is_monotone),
    )  # fmt: skip
    for kind, words, holds in shapes:
        complete = [curve for curve in curves(rows, kind).values() if len(curve) == len(CURVE)]
        if complete:
            count = sum(map(holds, complete))
            lines.append(f"| FD over s from {kind} images: {words} (paper) | {count} of {len(complete)} |")
    return "\n".join(lines) + "\n"


CASCADE_MAKERS = {
    "cascade_protocol": _protocol, "cascade_table": table, "cascade_picture": _picture, "cascade_curve": _curve,
    "cascade_order": _order,
}  # fmt: skip
