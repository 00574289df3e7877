"""``benchmarks/results/gpu_<card>.md`` of what ``make gpu`` found: ``python -m benchmarks.gpu.page [rows.jsonl …]``.

Rows of several calls and of earlier pages of that card are merged; later ones of the same stage and name win.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

from benchmarks.gpu.goals import goals
from benchmarks.gpu.results import Results, Row, card_of, keep, lines_of, slug

CHECKOUT = Path(__file__).resolve().parents[2]
FOLDER = CHECKOUT / "benchmarks" / "results"
HIDDEN = (
    "stage", "name", "status", "seconds", "kernels", "at", "ms_10", "ms_90", "repeats", "losses", "logged", "images",
    "least_range", "run",
)  # fmt: skip
LOGGED = ("train/", "speed/", "fd_", "kd_", "is_", "precision_", "recall_", "intra_", "nearest_", "pairwise_", "path_")
"""How the names of values begin that say no more than that there were some."""

TITLES = {
    "machine": "The machine",
    "methods": "Every method in every precision, 32 px",
    "agreement": "The GPU against the CPU, relative errors",
    "resume": "3 + 3 steps against 6, relative differences",
    "distributed": "What several GPUs need, on one",
    "unet256": "A training step of ADM's U-Net at 256 px (553 M weights, batch 8)",
    "adaptation": "DDPM-PA, and drawing, at 256 px",
    "stylegan2": "StyleGAN2 at 256 px, batch 16",
    "memory": "GPU memory of ADM's U-Net at 256 px",
    "metrics": "Metrics at 256 px",
    "compiled": "ADM's U-Net at 256 px, compiled",
}
STEP = (("ms (10 to 90 %)", "ms"), ("TFLOP/s", "tflops"), ("of the matrix rate", "share"), ("GiB", "peak_gib"))
COLUMNS: dict[str, tuple[tuple[str, str], ...]] = {
    "methods": (
        ("steps", "steps"), ("losses, first to last", "losses"), ("skipped of fp16", "skipped"),
        ("waits for the GPU a step", "waits_per_step"), ("where", "waits_at"),
    ),
    "agreement": (("float32, worst", "float32"), ("bf16, worst", "bf16")),
    "unet256": (("batch", "batch"), *STEP),
    "adaptation": (("batch", "batch"), *STEP[:2], STEP[3], ("images/s", "images_per_s")),
    "compiled": (*STEP[:2], STEP[3], ("s to compile", "compile_seconds")),
    "stylegan2": (
        ("D ms", "d_ms"), ("G ms", "g_ms"), ("R1 ms", "r1_ms"), ("path length ms", "path_length_ms"),
        ("plain iteration ms", "plain_ms"), ("amortised ms", "ms"), ("GiB", "peak_gib"),
    ),
    "memory": (
        ("fits", "fits"), ("GiB at the peak", "peak_gib"), ("GiB held", "reserved_gib"),
        ("GiB kept, an image", "an_image_gib"), ("whatever the batch", "fixed_gib"), ("state GiB", "state_gib"),
    ),
    "metrics": (("ms (10 to 90 %)", "ms"), ("images", "images"), ("images/s", "images_per_s"), ("GiB", "peak_gib")),
}  # fmt: skip
"""Of known stages, what is shown in columns; other rows, and other stages, show all that they have."""


def shown(value: Any) -> str:
    """A value in a cell."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1000 else f"{value:,.0f}"
    if isinstance(value, dict):
        return ", ".join(f"{name} {shown(one)}" for name, one in value.items())
    if isinstance(value, list):
        return ", ".join(shown(one) for one in value)
    return "" if value is None else " ".join(str(value).split()).replace("|", "/")


def cell(row: Row, key: str) -> str:
    """A column of a row."""
    if key == "share" and key in row:
        return f"{row[key]:.1%}"
    if key == "losses" and row.get(key):
        return f"{shown(row[key][0])} to {shown(row[key][-1])}"
    if key in ("float32", "bf16") and row.get(key):
        return f"{max(row[key].values()):.1e}"
    if key == "ms" and "ms_10" in row:
        return f"{shown(row['ms'])} ({shown(row['ms_10'])} to {shown(row['ms_90'])})"
    return shown(row.get(key))


def table(header: list[str], rows: list[list[str]]) -> list[str]:
    """Lines of a Markdown table."""
    return [f"| {' | '.join(line)} |" for line in (header, ["---"] * len(header), *rows)]


def section(results: Results, stage: str) -> list[str]:
    """A stage's rows that went well: known values in columns, others in words, kernels in tables of their own."""
    rows, columns = results.of(stage), COLUMNS.get(stage, ())
    keys = {key for _, key in columns}
    known = [row for row in rows if keys & {key for key, value in row.items() if value is not None}]
    lines = [f"## {TITLES.get(stage, stage)}", ""]
    if known:
        header = ["", *(title for title, _ in columns)]
        lines += [*table(header, [[row["name"], *(cell(row, key) for _, key in columns)] for row in known]), ""]
    plain = [row for row in rows if row not in known and "kernels" not in row]
    quiet = [row["name"] for row in plain if not in_words(row)]
    plain = [row for row in plain if row["name"] not in quiet and row["name"] != "card"]
    if quiet:
        lines += [f"Went well: {', '.join(quiet)}.", ""]
    if plain:
        lines += [*table(["", "found"], [[row["name"], in_words(row)] for row in plain]), ""]
    for row in rows:
        if "kernels" in row:
            header = ["longest kernels of a step", "calls", "ms", "share"]
            cells = [
                [*(shown(k[key]) for key in ("kernel", "calls", "ms")), f"{k['share']:.1%}"] for k in row["kernels"]
            ]
            lines += [f"{row['name']}:", "", *table(header, cells), ""]
    return lines


def in_words(row: Row) -> str:
    """All that a row has to say; nothing of one that only went well."""
    said = {key: value for key, value in row.items() if key not in HIDDEN and not key.startswith(LOGGED)}
    return "; ".join(f"{key} {shown(value)}" for key, value in said.items() if value is not None)


def why(row: Row) -> str:
    """What a row that did not go well says."""
    return f"{row.get('error', '')} {shown(row.get('message'))[:300]}".strip()


def page(results: Results) -> str:
    """The text."""
    stages = list(dict.fromkeys(row["stage"] for row in results.rows))
    bad = [row for row in results.rows if row["status"] != "ok"]
    lines = [
        f"# {results.card}",
        "",
        "Made by `python -m benchmarks.gpu.page` from what `make gpu` found, which is beside it as JSON. Times are of "
        "CUDA events, medians with the 10 and 90 % points; ratios are of one run on one machine where nothing else is "
        f"said. {len(results.rows)} rows, {len(bad)} of them did not go well.",
        "",
        "## Goals",
        "",
        *table(["goal", "reached", ""], goals(results)),
        "",
    ]
    if bad:
        cells = [[row["stage"], row["name"], row["status"], why(row)] for row in bad]
        lines += ["## What failed or was not run", "", *table(["stage", "row", "", "why"], cells), ""]
    for stage in stages:
        if results.of(stage):
            lines += section(results, stage)
    return "\n".join(lines)


def main(argv: list[str], folder: Path = FOLDER) -> int:
    """Write the page of each card that the rows are of."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu.page", description=__doc__)
    parser.add_argument("rows", nargs="*", type=Path, default=[CHECKOUT / "build" / "gpu" / "rows.jsonl"])
    parser.add_argument("--card", help="name of the GPU, where no row has it (rows of the CPU never have one)")
    arguments = parser.parse_args(argv)
    rows = [row for path in arguments.rows for row in lines_of(path)]
    card = arguments.card or card_of(rows)
    if card is None:
        parser.error("no row names a GPU: rows of a dry run are not published")
    results = keep(folder, card, rows)
    path = folder / f"gpu_{slug(results.card)}.md"
    path.write_text(page(results))
    print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
