"""``python3 -m benchmarks.gpu``, from the checkout, without installation: see README.md beside it."""

import argparse
import signal
import sys
import tempfile
from pathlib import Path

from benchmarks.gpu.bare import prepare
from benchmarks.gpu.control import Control, Row
from benchmarks.gpu.stages import chosen

A_CALL = 240
CHECKOUT = Path(__file__).resolve().parents[2]


def main(argv: list[str]) -> int:
    """Run stages; the exit status is 1 if a row failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--call", choices=["1", "2", "all"], default="all", help="half of the stages")
    parser.add_argument("--stages", help="only these, separated by commas")
    parser.add_argument("--budget", type=float, help="seconds; later stages are dropped; by default 240 a call")
    parser.add_argument("--out", type=Path, default=CHECKOUT / "build" / "gpu", help="folder of rows.jsonl and log.txt")
    parser.add_argument("--dry", action="store_true", help="tiny, on the CPU, to see that it runs")
    arguments = parser.parse_args(argv)
    try:
        stages = chosen(arguments.call, arguments.stages)
    except ValueError as error:
        parser.error(str(error))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # whoever sets a limit: what was found is kept
    arguments.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="gpu-") as scratch:
        prepare(CHECKOUT, Path(scratch) / "packages")
        device = "cpu" if arguments.dry else "cuda:0"
        budget = arguments.budget or A_CALL * (2 if arguments.call == "all" else 1)
        control = Control(arguments.out.resolve(), Path(scratch), device, arguments.dry, budget)
        rows = control.run(stages)
    return report(rows)


def report(rows: list[Row]) -> int:
    """What did not go well, last, since of long output the end is kept."""
    bad = [row for row in rows if row["status"] != "ok"]
    print(f"\n{len(rows)} rows, {len(bad)} of them not ok{':' if bad else ''}")
    for row in bad:
        said = " ".join(str(row.get("message", "")).split())[:240]
        print(f"{row['status']:8}{row['stage']}: {row['name']}: {row.get('error', '')} {said}")
        for frame in row.get("at", [])[-3:]:
            print(f"          {frame[:160]}")
    return int(any(row["status"] == "failed" for row in bad))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
