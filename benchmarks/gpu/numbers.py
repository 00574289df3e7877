"""Numbers that ``make gpu`` found, put into the documentation: ``python -m benchmarks.gpu.numbers``.

Writes what stands between ``<!-- gpu NAME -->`` and ``<!-- /gpu -->`` in pages, and the ``# Cost:`` lines of recipes,
from ``benchmarks/results/gpu_*.json``. Where nothing was measured, they say so. Run twice it changes nothing more.
"""

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from benchmarks.gpu.results import Results, Row, kept, short, slug

CHECKOUT = Path(__file__).resolve().parents[2]
REGION = re.compile(r"(<!-- gpu ([a-z-]+) -->)(.*?)(<!-- /gpu -->)", re.DOTALL)
COST = re.compile(r"^# Cost: (?:not measured yet|measured: .*?)(; the (?:paper|authors) used [^\n]*)?\.$", re.MULTILINE)
UNMEASURED = "not measured yet"
LEAST = 6  # images of whose memory is spoken
CHECKED = {
    "methods": "all methods by the command line", "agreement": "the CPU's numbers", "resume": "resuming",
    "distributed": "FSDP2 and NCCL with one rank, signals",
}  # fmt: skip
"""Stages, and what they check in words."""

COSTS = {
    "ddpm/source256": ("unet256", "eager"),
    "ddpm/finetune256": ("adaptation", "DDPM, batch 3"),
    "ddpm/ffhq_babies256": ("adaptation", "DDPM, batch 3"),
    "ddpm/ffhq_metfaces256": ("adaptation", "DDPM, batch 3"),
    "ddpm/ffhq_sketches256": ("adaptation", "DDPM, batch 3"),
    "ddpm/ffhq_sunglasses256": ("adaptation", "DDPM, batch 3"),
    "ddpm/scratch256_10": ("adaptation", "DDPM, batch 6"),
    "ddpm/scratch256_100": ("adaptation", "DDPM, batch 6"),
    "ddpm/scratch256_1000": ("adaptation", "DDPM, batch 6"),
    "ddpm_pa/church_haunted_houses256": ("adaptation", "DDPM-PA, all compared, batch 3"),
    "ddpm_pa/church_landscapes256": ("adaptation", "DDPM-PA, all compared, batch 3"),
    "ddpm_pa/ffhq_amedeo256": ("adaptation", "DDPM-PA, all compared, batch 3"),
    "ddpm_pa/ffhq_babies256": ("adaptation", "DDPM-PA, all compared, batch 3"),
    "ddpm_pa/ffhq_metfaces256": ("adaptation", "DDPM-PA, all compared, batch 3"),
    "ddpm_pa/ffhq_raphael256": ("adaptation", "DDPM-PA, all compared, batch 3"),
    "ddpm_pa/ffhq_sketches256": ("adaptation", "DDPM-PA, all compared, batch 3"),
    "ddpm_pa/ffhq_sunglasses256": ("adaptation", "DDPM-PA, all compared, batch 3"),
    "stylegan2/source256": ("stylegan2", "float32, TF32, batch 4"),
    "stylegan2/tgan256": ("stylegan2", "float32, TF32, batch 4"),
    "stylegan2/scratch256_100": ("stylegan2", "float32, TF32"),
    "stylegan2/diffaugment256_100": ("stylegan2", "float32, TF32, DiffAugment"),
    "stylegan2/ada256_100": ("stylegan2", "float32, TF32, ADA"),
}
"""By recipe, the row whose steps are its own: the same method, network, batch of a GPU and precision."""


def cost(recipe: dict[str, Any], card: str, row: Row) -> str | None:
    """What a recipe costs by a measured step; none if the step was another batch's or precision's."""
    trainer, batch = recipe["trainer"], recipe["data"]["init_args"]["batch_size"]
    if (row.get("batch"), row.get("precision")) != (batch, trainer.get("precision", "32-true")):
        return None
    steps, ms = trainer["max_steps"], row["ms"]
    precision = {"bf16-mixed": "bf16", "32-true": "float32 (TF32)"}.get(row["precision"], row["precision"])
    memory = f", {row['peak_gib']:.0f} GiB" if row.get("peak_gib") else ""
    return (
        f"measured: {figure(ms)} ms a step on one {short(card)} in {precision} (batch {batch}){memory}, "
        f"{figure(ms * steps / 3.6e6)} h for {steps} steps by that rate; not run to its end"
    )


def figure(value: float) -> str:
    """With two or three digits."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def recipe_with_cost(text: str, name: str, results: list[Results]) -> str:
    """A recipe's file with its line renewed; what the line says of a paper stays."""
    stage, row_name = COSTS[name]
    said = None
    for one in results:
        row = one.find(stage, row_name)
        said = said or (cost(yaml.safe_load(text), one.card, row) if row else None)
    return COST.sub(lambda found: f"# Cost: {said or UNMEASURED}{found[1] or ''}.", text)


# Regions of pages


def memory_note(results: list[Results]) -> str:
    """Of docs/memory.md's first paragraph."""
    measured = [one for one in results if one.find("memory", "state")]
    if not measured:
        return "**Computed: none of these rows has been measured on a GPU yet.**"
    cards = " and ".join(f"one {short(one.card)}" for one in measured)
    return f"Computed; a step was measured beside it on {cards}, below. Nothing here was trained to an end."


def memory_looked(results: list[Results]) -> str:
    """Whether temporaries were looked at on a GPU: how the peaks above the state compare with what is kept."""
    from benchmarks.memory import GIB, computed

    try:
        state, kept_bytes = computed()
    except FileNotFoundError:
        return "On a GPU nobody has looked."
    said = []
    for one in results:
        ratios = [
            (row["peak_gib"] - state / GIB) / (of.of(row["images"]) / GIB)
            for setting, of in kept_bytes.items()
            for row in one.of("memory")
            if row["name"] == f"{setting}, {row.get('images')} images"
            if row.get("peak_gib") and row["images"] >= LEAST
        ]
        if ratios:
            said.append(
                f"On one {short(one.card)} the peak of a step was {min(ratios):.2f} to {max(ratios):.2f} times what is "
                f"kept above the state (from {LEAST} images on, no accumulation)."
            )
    return " ".join(said) or "On a GPU nobody has looked."


def memory_table(results: list[Results]) -> str:
    """Computed and measured sums, card by card."""
    from benchmarks.memory import GIB, PARTS, SETTINGS, computed

    measured = [one for one in results if one.find("memory", "state")]
    if not measured:
        return "Not measured on a GPU yet."
    state, kept_bytes = computed()
    lines = []
    for one in measured:
        lines += [
            f"Measured on one {one.card}: the peak of a step with the state, GiB; in brackets the computed sum, which "
            "has the gradients from the beginning:",
            "",
            f"| one {short(one.card)} | {' | '.join(map(str, PARTS))} |",
            f"|{' --- |' * (len(PARTS) + 1)}",
        ]
        for setting in map(str, SETTINGS):
            cells = []
            for count in PARTS:
                row = one.find("memory", f"{setting}, {count} images")
                total = f"({(state + kept_bytes[setting].of(count)) / GIB:.1f})"
                peak = row.get("peak_gib") if row else None
                cells.append(f"{peak:.1f} {total}" if peak else f"{'does not fit' if row else 'not run'} {total}")
            lines.append(f"| {setting} | {' | '.join(cells)} |")
        weights = one.find("memory", "state") or {}
        lines += ["", f"State: {weights['state_gib']:.2f} ({state / GIB:.2f})."]
        for setting in map(str, SETTINGS):
            row, of = one.find("memory", f"kept {setting}"), kept_bytes[setting]
            if row:
                lines.append(
                    f"Kept, {setting}: {row['an_image_gib']:.2f} ({of.an_image / GIB:.2f}) for each image, "
                    f"{row['fixed_gib']:.2f} ({of.fixed / GIB:.2f}) whatever the batch."
                )
        lines.append("")
    return "\n".join(lines).strip()


def clusters_speed(results: list[Results]) -> str:
    """Of docs/clusters.md, after the columns of speed."""
    said = []
    for one in results:
        row = one.find("unet256", "eager")
        if row is None:
            continue
        share = f", {row['share']:.0%} of that GPU's measured rate of matrix products" if row.get("share") else ""
        said.append(
            f"On one {short(one.card)}, ADM's 256 px U-Net takes {figure(row['ms'])} ms a step in bf16 (batch "
            f"{row['batch']}): {figure(row['tflops'])} TFLOP/s{share}. {link(one)}"
        )
    return " ".join(said) or "On GPUs none of this has been run by us."


def clusters_checked(results: list[Results]) -> str:
    """Of docs/clusters.md's end: what was run on one GPU."""
    said = []
    for one in results:
        rows = [row for row in one.rows if row["stage"] in CHECKED]
        words = [word for stage, word in CHECKED.items() if any(row["stage"] == stage for row in rows)]
        good = sum(row["status"] == "ok" for row in rows)
        if rows:
            said.append(
                f"On one {short(one.card)} {good} of {len(rows)} checks of `make gpu` went well ({', '.join(words)}): "
                f"{link(one)}"
            )
    last = "On several GPUs and on a real cluster none of this has been run by us."
    return " ".join([*said, last]) if said else "On GPUs and on a real cluster none of this has been run by us."


def link(results: Results) -> str:
    """To the page of a card, from docs."""
    name = f"gpu_{slug(results.card)}.md"
    return f"[benchmarks/results/{name}](../benchmarks/results/{name})."


REGIONS: dict[str, Callable[[list[Results]], str]] = {
    "memory-note": memory_note, "memory-looked": memory_looked, "memory-table": memory_table,
    "clusters-speed": clusters_speed, "clusters-checked": clusters_checked,
}  # fmt: skip


def renewed(text: str, results: list[Results]) -> str:
    """A page with its regions written anew; one that is a paragraph of its own stays one."""

    def region(found: re.Match[str]) -> str:
        gap = "\n\n" if found[3].startswith("\n") else ""
        return f"{found[1]}{gap}{REGIONS[found[2]](results)}{gap}{found[4]}"

    return REGION.sub(region, text)


def main(root: Path = CHECKOUT) -> int:
    """Renew all pages and recipes of a checkout; print those that changed."""
    results = kept(root / "benchmarks" / "results")
    pages = {path: renewed(path.read_text(), results) for path in sorted((root / "docs").glob("*.md"))}
    for name in COSTS:
        path = root / "configs" / f"{name}.yaml"
        pages[path] = recipe_with_cost(path.read_text(), name, results)
    for path, text in pages.items():
        if text != path.read_text():
            path.write_text(text)
            print(path.relative_to(root))
    return 0


if __name__ == "__main__":
    sys.exit(main())
