"""One measured process: ``python -m benchmarks.variants tenshot training float32 --serve``."""

import argparse

import torch

from benchmarks.parts.program import Program, run

HALF = {"bf16": torch.bfloat16, "float16": torch.float16}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("side", choices=("official", "tenshot", "machine"))
    parser.add_argument("task", choices=("training", "adaptation", "sampling", "stylegan2", "convolution", "product"))
    parser.add_argument("precision", choices=("float32", "bf16", "float16"), help="official: float32 or float16")
    parser.add_argument("--serve", action="store_true", help="take steps on command, see parts/program.py")
    parser.add_argument("--device", default="cpu", type=torch.device)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--channels", type=int, default=64)
    parser.add_argument("--ddim-steps", type=int, default=25)
    parser.add_argument("--channel-multiplier", type=int, default=1, help="of StyleGAN2")
    parser.add_argument("--default-malloc", action="store_true", help="tenshot without its memory setting")
    args = parser.parse_args()

    if args.side == "machine":
        from benchmarks.parts import machine

        def build() -> Program:
            return getattr(machine, args.task)(args.device, HALF.get(args.precision, torch.float32))
    else:
        from benchmarks.parts.settings import Setting

        setting = Setting(
            args.batch, args.image_size, args.channels, args.ddim_steps, args.device, args.channel_multiplier
        )
        if args.side == "official" and args.task == "stylegan2":
            from benchmarks.parts import official_gan as side

            side.load(args.device)
        elif args.side == "official":
            from benchmarks.parts import official as side

            side.load(args.task)
        else:
            if args.task == "stylegan2":
                from benchmarks.parts import ours_gan as side
            else:
                from benchmarks.parts import ours as side

            from tenshot.cli.allocator import keep_freed_memory

            if not args.default_malloc:
                keep_freed_memory()

        def build() -> Program:
            return getattr(side, args.task)(setting, args.precision != "float32")

    name = " ".join([args.side, args.task, args.precision] + ["default-malloc"] * args.default_malloc)
    run(name, build, args.device, args.serve)


if __name__ == "__main__":
    main()
