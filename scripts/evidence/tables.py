"""Rows as a table: a line a method, means and deviations over seeds."""

from collections.abc import Sequence
from statistics import mean, stdev

from .results import Row

COLUMNS = {
    "step": 0, "fd": 1, "precision": 2, "recall": 2, "coverage": 2, "intra_dist": 2, "nearest_dist": 2,
    "near_copies": 3, "authenticity": 2, "nearness": 2, "vendi": 1, "miou": 3, "miou_true_images": 3, "edge_f1": 3,
    "edge_f1_true_images": 3, "diversity_dist": 2,
}  # fmt: skip
"""Name: digits after the point."""
JUDGED = {"spread": 2, "near_copies_pixels": 3, "transfer": 2, "fd_attributes": 1}
"""What the attribute network of the drawn faces adds."""


def table(rows: Sequence[Row], group: str = "methods") -> str:
    """Of one target: the values that any of its rows has."""
    columns = {key: digits for key, digits in (COLUMNS | JUDGED).items() if any(row.get(key) for row in rows)}
    lines = [f"| {rows[0]['target']} | n | " + " | ".join(columns) + " |", "|---" * (len(columns) + 2) + "|"]
    mine = [row for row in rows if row["group"] == group]
    for method in dict.fromkeys(row["method"] for row in mine):
        own = [row for row in mine if row["method"] == method]
        cells = [cell([float(row[key]) for row in own if row.get(key)], digits) for key, digits in columns.items()]
        lines.append(f"| {method} | {len(own)} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def cell(values: Sequence[float], digits: int) -> str:
    """Mean ± standard deviation (n - 1); the value alone, where there is one."""
    if not values:
        return ""
    spread = f" ± {stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{mean(values):.{digits}f}{spread}"
