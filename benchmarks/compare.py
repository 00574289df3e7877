"""Ours against the official code, in one run, taking turns: ``python -m benchmarks.compare``; see README.md.

Needs GUIDED_DIFFUSION, the path of a checkout of openai/guided-diffusion; for adaptation DOMAINSTUDIO, one of
bbzhu-jy16/DomainStudio; for stylegan2 STYLEGAN2_PYTORCH, one of rosinality/stylegan2-pytorch. Prints a table, writes it
with every round's numbers to ``benchmarks/results/<name>.json`` and ``.md``.
"""

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

import torch

from benchmarks.parts.contest import Contest, Variant, hold
from benchmarks.parts.report import PLAIN, describe_machine, markdown, summarise

FOLDER = Path(__file__).parent
GUIDED_DIFFUSION = ("GUIDED_DIFFUSION", "openai/guided-diffusion", "guided_diffusion")
TASKS = {
    "training": GUIDED_DIFFUSION,
    "adaptation": ("DOMAINSTUDIO", "bbzhu-jy16/DomainStudio", "Unconditional"),
    "sampling": GUIDED_DIFFUSION,
    "stylegan2": ("STYLEGAN2_PYTORCH", "rosinality/stylegan2-pytorch", "op"),
}
"""Of each the checkout that it needs: its variable, the repository, a folder in it."""


def missing_bf16(device: str) -> str | None:
    """Why bf16 is not measured here, if so."""
    if device != "cpu" or torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported():
        return None
    return "this CPU has neither avx512_bf16 nor amx, so that bf16 products are emulated"


def contests(args: argparse.Namespace, precisions: list[str]) -> list[Contest]:
    """What is compared with what: our bf16 with their float16 on CUDA where they have it, else with their float32."""
    common = ["--device", args.device, "--image-size", str(args.image_size), "--channels", str(args.channels)]
    found = []
    for task, batch in (
        ("training", args.train_batch), ("adaptation", args.adapt_batch), ("sampling", args.sample_batch),
        ("stylegan2", args.train_batch),
    ):  # fmt: skip
        if task not in args.tasks:
            continue
        for precision in precisions:
            has_half = args.device != "cpu" and task != "stylegan2"
            theirs = "float16" if precision == "bf16" and has_half else "float32"
            size = [*common, "--batch", str(batch), "--ddim-steps", str(args.ddim_steps)]
            size += ["--channel-multiplier", str(args.channel_multiplier)]
            variants = [
                Variant("official", ["official", task, theirs, *size]),
                Variant("tenshot", ["tenshot", task, precision, *size]),
                Variant("convolution", ["machine", "convolution", precision, *common]),
                Variant("product", ["machine", "product", precision, *common]),
            ]
            if task == "adaptation":
                variants.insert(2, Variant(PLAIN, ["tenshot", "training", precision, *size]))
            elif task != "stylegan2" and args.device == "cpu" and precision == "float32":
                plain = ["tenshot", task, precision, *size, "--default-malloc"]
                variants.insert(2, Variant("tenshot, default malloc", plain))
            found.append(Contest(task, precision, variants))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--name", default="latest", help="of the files in benchmarks/results")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=["training", "sampling"])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--rounds", type=int, default=9, help="quiet rounds wanted of each contest")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--channels", type=int, default=64)
    parser.add_argument("--train-batch", type=int, default=4)
    parser.add_argument("--adapt-batch", type=int, default=8)
    parser.add_argument("--sample-batch", type=int, default=8)
    parser.add_argument("--ddim-steps", type=int, default=25)
    parser.add_argument("--channel-multiplier", type=int, default=1, help="of StyleGAN2")
    args = parser.parse_args()
    for task in args.tasks:
        variable, repository, folder = TASKS[task]
        if not (Path(os.environ.get(variable, "")) / folder).is_dir():
            sys.exit(f"set {variable} to a checkout of {repository}: the comparison is with its code")

    reason = missing_bf16(args.device)
    notes = [f"bf16 was skipped: {reason}."] if reason else []
    result: dict[str, Any] = {"machine": describe_machine(args.device, args.threads), "notes": notes, "contests": []}
    for contest in contests(args, ["float32"] if reason else ["float32", "bf16"]):
        print(f"{contest.task}, {contest.precision}: {', '.join(v.name for v in contest.variants)}", file=sys.stderr)
        result["contests"].append(summarise(contest, hold(contest, args.rounds, args.threads)))

    text = markdown(result)
    (FOLDER / "results").mkdir(exist_ok=True)
    (FOLDER / "results" / f"{args.name}.json").write_text(json.dumps(result, indent=1) + "\n")
    (FOLDER / "results" / f"{args.name}.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
