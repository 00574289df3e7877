"""Print how much of each floor (docs/architecture.md) the tests reached, from the last ``pytest --cov``."""

from collections import defaultdict
from pathlib import Path

from coverage import Coverage

FLOORS = (
    "cli", "reports", "callbacks", "run", "lightning_modules", "metrics", "distributed", "checkpoints", "datamodules",
    "models", "diffusion", "losses", "errors",
)  # fmt: skip


def main() -> None:
    """Read .coverage and print a line a floor."""
    coverage = Coverage()
    coverage.load()
    root = Path(__file__).resolve().parent.parent
    lines: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0])
    for floor in FLOORS:
        for file in sorted((root / floor).rglob("*.py")):
            _, statements, _, missing, _ = coverage.analysis2(str(file))
            lines[floor][0] += len(statements)
            lines[floor][1] += len(missing)
    print(f"{'floor':<20}{'lines':>8}{'covered':>10}")
    for floor, (total, missed) in lines.items():
        share = f"{(total - missed) / total:.0%}" if total else "-"
        print(f"{floor:<20}{total:>8}{share:>10}")


if __name__ == "__main__":
    main()
