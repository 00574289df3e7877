"""What docs/evidence.md says of PITI on pairs, between markers: what the rows say, and nothing else."""

import textwrap
from collections.abc import Iterator, Sequence
from itertools import combinations, pairwise

from .pairs import (
    ALONE,
    BATCH,
    COUNT,
    COUNTS,
    DOMAINS,
    LARGE,
    METHODS,
    PER_CONDITION,
    PRIOR,
    REFERENCE,
    SHIFTED,
    STEPS,
    UPSAMPLERS,
    W,
)
from .plan import FULL, SEEDS
from .results import Row
from .sets import TRUE
from .tables import cell, table

TITLES = {
    "mask": "masks to faces", "sketch": "sketches to faces", "babies": "masks to babies",
    "sketches": "masks to the domain `sketches`", LARGE: "32 to 64 px by masks",
}  # fmt: skip
ORDER = tuple(METHODS)
"""From the best to the worst, by the paper's FID."""
LOSSES = ("+ both", "+ perceptual", "diffusion loss alone")
"""The same of the upsampler; the paper has no adversarial loss without a perceptual one."""
KEYS = {"FD": "fd", "fidelity": "", "diversity": "diversity_dist"}
"""What is counted; the fidelity is ``miou`` or, of sketches, ``edge_f1``."""
DIGITS = {"FD": 1, "fidelity": 3, "diversity": 2}
"""After the point."""
OMITTED = (
    f"{COUNTS[0]} and {COUNTS[-1]} pairs, other domains, guidance and upsampler: with seed {SEEDS[0]} alone. One-stage "
    "on other domains: not run. So all takes three hours of one core by estimate.",
    "The middle run of the public code, stage 1 with conditions hidden: it is not in the paper.",
    "The upsampler without degradation, and with VGG19: the perceptual loss is by EfficientNet-Lite0. mIoU at 64 px: "
    "the segmenters know 32 px. Near-copies of 1000 pairs.",
)


def value(row: Row, key: str) -> float | None:
    """What is compared of a row; none where it was not measured."""
    name = KEYS[key] or ("edge_f1" if row["target"] == "sketch" else "miou")
    return float(row[name]) if row.get(name) else None


def groups(rows: Sequence[Row]) -> Iterator[tuple[str, int, dict[str, dict[str, Row]]]]:
    """Target, number of pairs, and the rows by method and seed."""
    for target in DOMAINS:
        for count in COUNTS:
            found: dict[str, dict[str, Row]] = {}
            for row in rows:
                name, _, pairs = row["method"].partition(", ")
                if (row["target"], row["group"], pairs) == (target, "methods", f"{count} pairs"):
                    found.setdefault(name, {})[row["seed"]] = row
            if found:
                yield target, count, found


def wins(first: dict[str, Row], second: dict[str, Row], key: str) -> str:
    """In how many of the seeds that both have the first is better."""
    both = [(value(first[seed], key), value(second[seed], key)) for seed in first.keys() & second.keys()]
    there = [(a, b) for a, b in both if a is not None and b is not None]
    return f"{sum(a < b if key == 'FD' else a > b for a, b in there)} of {len(there)}" if there else ""


def _protocol(rows: Sequence[Row]) -> str:
    hours = sum(float(row["minutes"]) for row in rows) / 60
    one = UPSAMPLERS[LOSSES[0]]
    text = (
        f"The prior has seen 10,000 faces without conditions ({PRIOR.steps} steps of {BATCH}, 32 px); pairs are of "
        f"other heads. Each method trains {STEPS} steps of {BATCH}: two-stage, {METHODS['two-stage'][0].steps} of what "
        f"reads the condition, then {METHODS['two-stage'][1].steps} of all; one-stage, all at once from the prior; "
        "from scratch, all from nothing, at the prior's learning rate. Their first convolution sees the condition "
        f"image; {ALONE} is two-stage with the network of the paper, where it does not. A fifth of the conditions is "
        f"hidden where all is trained. {FULL.samples} samples, {PER_CONDITION} of each of "
        f"{FULL.samples // PER_CONDITION} conditions that nothing was trained on, by {FULL.sampler_steps} steps of "
        f"DPM-Solver++ without guidance, compared with {REFERENCE} other true images by EfficientNet-Lite0's features; "
        f'"true images" are {TRUE} more. '
        "`miou` is by a segmenter of the domain, trained on other heads, `edge_f1` by Canny's edges; beside each is "
        "what true images have. `diversity_dist`: distance of samples of one condition. Upsamplers are trained on "
        f"{COUNT} pairs, {one.steps} steps of {one.batch}, and enlarge what the two-stage method draws. "
        "Mean ± standard deviation over n seeds. Each measurement with its training, prior and segmenters left out, "
        f"{hours:.1f} hours of one core."
    )
    return f"## PITI on pairs of drawn faces\n\n{textwrap.fill(text, 120, break_on_hyphens=False)}\n"


def _table(rows: Sequence[Row]) -> str:
    about = {"target": TITLES[rows[0]["target"]], "step": ""}  # the step of a second stage would mislead
    return table([row | about for row in rows])


def _picture(rows: Sequence[Row]) -> str:
    if not any(row["seed"] == str(SEEDS[0]) and row["method"] != "true images" for row in rows):
        return ""  # nothing is drawn yet
    target = rows[0]["target"]
    what = "what is enlarged, " if target == LARGE else ""
    return (
        f"Conditions, their true images, {what}and the first sample of each condition, seed {SEEDS[0]}:\n\n"
        f"![Samples: {TITLES[target]}](images/evidence_pairs_{target}.png)\n"
    )


def _order(rows: Sequence[Row]) -> str:
    """In how many seeds the better of two methods, by the paper, is better; and whether its orders hold."""
    lines = ["| better, in how many seeds | " + " | ".join(KEYS) + " |", "|---" * (len(KEYS) + 1) + "|"]
    holds: list[bool] = []
    for target, count, found in groups(rows):
        for first, second in (*combinations(ORDER, 2), (ORDER[0], ALONE)):
            cells = [wins(found.get(first, {}), found.get(second, {}), key) for key in KEYS]
            if any(cells):
                lines.append(f"| {TITLES[target]}, {count} pairs: {first} than {second} | {' | '.join(cells)} |")
        for seed in set.intersection(*(set(found.get(name, {})) for name in ORDER)):
            fd = [distance for name in ORDER if (distance := value(found[name][seed], "FD")) is not None]
            holds += [all(a < b for a, b in pairwise(fd))] if len(fd) == len(ORDER) else []
    said = []
    if holds:
        said.append(
            f"The paper's order of FID, {' < '.join(ORDER)}, is that of FD in {sum(holds)} of {len(holds)} "
            "comparisons of a condition, a number of pairs and a seed."
        )
    return "\n".join(lines) + "\n\n" + _listed([*said, *_losses(rows), *_guided(rows)])


def _listed(lines: Sequence[str]) -> str:
    return "\n".join(textwrap.fill(f"* {line}", 120, subsequent_indent="  ") for line in lines) + "\n"


def _losses(rows: Sequence[Row]) -> list[str]:
    """Whether each loss of the upsampler helps as in the paper."""
    fd = {row["method"]: float(row["fd"]) for row in rows if row["target"] == LARGE and row.get("fd")}
    if not fd.keys() >= set(LOSSES):
        return []
    verdict = "holds" if all(fd[a] < fd[b] for a, b in pairwise(LOSSES)) else "does not hold"
    values = ", ".join(f"{fd[name]:.1f}" for name in LOSSES)
    return [f"The paper's order of the upsampler's losses, {' < '.join(LOSSES)}, {verdict} by FD ({values})."]


def by_w(rows: Sequence[Row]) -> dict[float, dict[str, Row]]:
    """For each w the rows of plain and of normalized guidance; w = 0, which is neither, first."""
    guided = {row["method"]: row for row in rows if row["group"] == "guidance"}
    seeds = {row["seed"] for row in guided.values()}
    found: dict[float, dict[str, Row]] = {}
    for row in rows:
        if (row["target"], row["method"]) == ("mask", f"two-stage, {COUNT} pairs") and row["seed"] in seeds:
            found[0.0] = {"plain": row, "normalized": row}
    for w in W:
        own = {how: guided[f"{how}, w = {w:g}"] for how in ("plain", "normalized") if f"{how}, w = {w:g}" in guided}
        found |= {w: own} if own else {}
    return found


def _guided(rows: Sequence[Row]) -> list[str]:
    """Whether normalized guidance is better where the paper says that plain guidance washes out: from w = 1 on."""
    both = {w: own for w, own in by_w(rows).items() if w >= 1 and len(own) == 2}
    better = [w for w, own in both.items() if float(own["normalized"]["fd"]) < float(own["plain"]["fd"])]
    if not both:
        return []
    return [f"From w = 1 on, where the paper sees plain guidance wash out, normalized guidance has the smaller FD at "
            f"{len(better)} of {len(both)} values of w."]  # fmt: skip


def _guidance(rows: Sequence[Row]) -> str:
    """Plain and normalized guidance over w."""
    found = by_w(rows)
    if set(found) <= {0.0}:
        return ""
    kinds = [(key, how) for key in KEYS for how in ("plain", "normalized")]
    heads = [f"{'mIoU' if key == 'fidelity' else key}, {how}" for key, how in kinds]
    lines = [f"| two-stage, {COUNT} masks: w | {' | '.join(heads)} |", "|---" * (len(kinds) + 1) + "|"]
    for w, own in found.items():
        values = [(value(own[how], key) if how in own else None, DIGITS[key]) for key, how in kinds]
        cells = [cell([] if number is None else [number], digits) for number, digits in values]
        lines.append(f"| {w:g} | {' | '.join(cells)} |")
    about = "\n\nThe same, and w = 0, drawn from the same noise:\n\n"
    return "\n".join(lines) + about + "![Plain and normalized guidance](images/evidence_pairs_guidance.png)\n"


def _omitted(rows: Sequence[Row]) -> str:
    """What is not in the tables: by plan, and what has not been run yet."""
    there = {(row["target"], row["method"], row["seed"]) for row in rows}
    planned = [
        (target, f"{name}, {count} pairs", str(seed))
        for target in DOMAINS if target != LARGE
        for count in (COUNTS if target in ("mask", "sketch") else (COUNT,))
        for name in (METHODS if target in ("mask", "sketch") else SHIFTED)
        for seed in (SEEDS if count == COUNT and target in ("mask", "sketch") else SEEDS[:1])
    ]  # fmt: skip
    planned.append(("mask", f"{ALONE}, {COUNT} pairs", str(SEEDS[0])))
    planned += [(LARGE, name, str(SEEDS[0])) for name in UPSAMPLERS]
    planned += [("mask", f"{how}, w = {w:g}", str(SEEDS[0])) for w in W for how in ("plain", "normalized")]
    late: dict[str, list[str]] = {}
    for one in planned:
        if one not in there:
            late.setdefault(f"{TITLES[one[0]]}, {one[1]}", []).append(one[2])
    return _listed([*OMITTED, *(f"Not run yet: {name}, seed {', '.join(seeds)}." for name, seeds in late.items())])


PAIRS_MAKERS = {
    "pairs_protocol": _protocol, "pairs_table": _table, "pairs_picture": _picture, "pairs_order": _order,
    "pairs_guidance": _guidance, "pairs_omitted": _omitted,
}  # fmt: skip
