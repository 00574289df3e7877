"""The tables of docs/evidence.md, between markers: what the rows say, and nothing else."""

import re
import textwrap
from collections.abc import Sequence

from .cascade_page import CASCADE_MAKERS
from .pairs_page import PAIRS_MAKERS
from .plan import FULL, METHODS, OMITTED, SEEDS, SWEEP, Method
from .results import Row
from .sets import SETS, SHOTS, TRUE
from .tables import table

PAGE = "evidence.md"
BLOCK = re.compile(r"<!-- evidence: (\w+) (\w+)(?: (\w+))? -->\n(.*?)<!-- end -->", re.DOTALL)

FEWER = {"fd", "near_copies"}
"""Those of the following of which less is better."""
PAIRS = (
    ("fine-tuned", "from scratch"), ("DDPM-PA", "fine-tuned"), ("fine-tuned, stopped", "fine-tuned"),
    ("DDPM-PA", "fine-tuned, stopped"), ("CDC", "TGAN"), ("DDPM-PA", "CDC"),
)  # fmt: skip
"""The paper's order, and what else is asked of it: the first is to be better."""
COMPARED = ("fd", "intra_dist", "near_copies")


def filled(page: str, rows: Sequence[Row]) -> str:
    """The page with every block between markers made anew; without rows of its set a block is empty."""

    def block(found: re.Match[str]) -> str:
        kind, name, target, _ = found.groups()
        own = [row for row in rows if row["set"] == name and target in (None, row["target"])]
        content = "\n" + MAKERS[kind](own) + "\n" if own else ""
        about = " ".join(filter(None, (kind, name, target)))
        return f"<!-- evidence: {about} -->\n{content}<!-- end -->"

    return BLOCK.sub(block, page)


def _sweep(rows: Sequence[Row]) -> str:
    """The sweep beside the methods that it varies, both of the sweep's seed alone."""
    parts = []
    for target in dict.fromkeys(row["target"] for row in rows if row["group"] == "sweep"):
        swept = [row for row in rows if row["target"] == target and row["group"] == "sweep"]
        seeds, bases = {row["seed"] for row in swept}, {row["method"].split(",")[0].split(" 0")[0] for row in swept}
        beside = [
            row | {"group": "sweep"} for row in rows
            if row["target"] == target and row["seed"] in seeds and row["group"] == "methods" and row["method"] in bases
        ]  # fmt: skip
        about = f"Seed {', '.join(sorted(seeds))}, DDPM-PA with a weight of 0.1 where nothing else is said:\n\n"
        parts.append(about + table([*beside, *swept], "sweep"))
    return "\n".join(parts)


def _order(rows: Sequence[Row]) -> str:
    """In how many seeds the first of a pair is better than the second, by each value."""
    lines = ["| better, in how many seeds | " + " | ".join(COMPARED) + " |"]
    lines.append("|---" * (len(COMPARED) + 1) + "|")
    known = {(row["target"], row["method"], row["seed"]): row for row in rows if row["group"] == "methods"}
    for target in dict.fromkeys(row["target"] for row in rows):
        for first, second in PAIRS:
            cells = []
            for key in COMPARED:
                both = [
                    (float(known[target, first, seed][key]), float(known[target, second, seed][key]))
                    for seed in map(str, SEEDS)
                    if all(known.get((target, method, seed), {}).get(key) for method in (first, second))
                ]
                wins = sum(a < b if key in FEWER else a > b for a, b in both)
                cells.append(f"{wins} of {len(both)}" if both else "")
            if any(cells):
                lines.append(f"| {target}: {first} than {second} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


TITLES = {
    "faces": "Drawn faces to sunglasses and to babies, with trained features",
    "avatars": "Avataaars to Open Peeps and to Lorelei",
}
STARTS = {
    "faces": "The sources are `tenshot:faces64` and `tenshot:faces64_stylegan2`. `spread`, `near_copies_pixels`, "
    "`transfer` and `fd_attributes` are what a network says that reads off what was drawn, as explained further down.",
    "avatars": "The sources are `tenshot:avatars64` and, for the GANs, a StyleGAN2 that the command trains.",
}


def _protocol(rows: Sequence[Row]) -> str:
    name = rows[0]["set"]
    hours = sum(float(row["minutes"]) for row in rows) / 60
    trained = [f"{method.name} {method.steps} steps of {method.batch}" for method in METHODS]
    truth = f"{SETS[name].references(1)} other images of the target"
    text = (
        f"{SHOTS} shots, 64 px. {STARTS[name]} Training: {'; '.join(trained)} images. DDPM-PA weighs both pairwise "
        'losses by 0.1. "Stopped" is the checkpoint of the same '
        f"training that `nearness_gap` chose of ten evaluations ([evaluation.md](evaluation.md)). {FULL.samples} "
        f"samples each, the diffusion models by {FULL.sampler_steps} steps of DPM-Solver++, compared with {truth} by "
        f'EfficientNet-Lite0\'s features; "true images" are {TRUE} other images measured as if they were samples. Mean '
        "± standard deviation over n seeds, each with shots and training noise of its own. Each measurement with its "
        f"training counted, {hours:.1f} hours of one core."
    )
    return f"## {TITLES[name]}\n\n{textwrap.fill(text, 120, break_on_hyphens=False)}\n"


def _trade_off(rows: Sequence[Row]) -> str:
    name = rows[0]["set"]
    return f"![Diversity and copies against the Fréchet distance](images/evidence_{name}_trade_off.png)\n"


def _picture(rows: Sequence[Row]) -> str:
    name, target = rows[0]["set"], rows[0]["target"]
    if not any(row["seed"] == str(SEEDS[0]) and row["method"] != "true images" for row in rows):
        return ""  # nothing is drawn yet
    return (
        "Ten shots, and the first samples of each method with seed 1; diffusion models start from the same noise, GANs "
        f"from the same latents.\n\n![Samples adapted to {target}](images/evidence_{name}_{target}.png)\n"
    )


def _omitted(rows: Sequence[Row]) -> str:
    """What is not in the tables: by plan, and what has not been run yet."""
    name = rows[0]["set"]
    there = {(row["target"], row["method"], row["seed"]) for row in rows}

    def absent(target: str, methods: Sequence[Method], seeds: Sequence[int]) -> list[str]:
        found = []
        for method in methods:
            late = [str(seed) for seed in seeds[: method.seeds] if (target, method.name, str(seed)) not in there]
            found += [f"{method.name} on {target} with seed {', '.join(late)}"] if late else []
        return found

    late = [
        one for target in SETS[name].targets
        for one in absent(target, METHODS, SEEDS) + absent(target, SWEEP.get(target, ()), SEEDS[:1])
    ]  # fmt: skip
    return "\n".join(f"* {line}" for line in (*OMITTED, *(f"Not run yet: {one}." for one in late))) + "\n"


MAKERS = {
    "protocol": _protocol, "table": table, "order": _order, "sweep": _sweep, "trade_off": _trade_off,
    "picture": _picture, "omitted": _omitted, **CASCADE_MAKERS, **PAIRS_MAKERS,
}  # fmt: skip
