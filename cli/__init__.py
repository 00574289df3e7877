"""The ``tenshot`` command. Help and errors answer before anything heavy is imported."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from importlib.metadata import version
from types import FrameType

from tenshot.errors import InputError, SaidError, did_you_mean, say

__all__ = ["main"]

COMMANDS = {
    "fit": "train or adapt a generator, or resume a run (--ckpt_path last)",
    "validate": "compute the validation losses and the bits per dimension of a checkpoint",
    "test": "measure samples of a checkpoint, or of a folder: FID, Intra-LPIPS and more in one table",
    "predict": "draw images from a checkpoint as numbered PNG files",
    "search": "find the sampling steps, guidance or truncation that suit a checkpoint, by any metric of test",
    "paint": "a page on this machine: draw a mask or sketch, and see what a run of PITI makes of it",
    "convert": "turn public or tenshot checkpoints into safetensors with their configuration",
    "prepare": "crop and resize the images of a data set once, into a folder or archives",
    "adapt": "the whole way: check the images of a folder, train, stop in time, draw, measure; it prints its commands",
    "cas": "classification accuracy score: draw samples by class, train a classifier on them, test it on real images",
    "compare": "put runs side by side: one page of metrics, samples, curves, cost and configurations",
}

HELP = """usage: tenshot COMMAND [--config FILE]... [--option value]...

Adapt image generators to a new domain from about ten images.

commands:
{commands}

A first run, on ten images that tenshot draws itself:
  tenshot fit --config configs/ddpm/faces32_source.yaml
  tenshot fit --config configs/ddpm/faces32_finetune.yaml --model.init_from runs/ddpm/faces32_source
  tenshot predict --ckpt_path runs/ddpm/faces32_finetune --images.count 64

tenshot COMMAND --help           all options of a command
tenshot fit --model.help DDPM    the options of a method      tenshot fit --data.help FewShot   ... of a data set
tenshot fit ... --print_config   the merged configuration
tenshot --version
"""


SHELLS = 130  # exit status of a process that Ctrl-C ended
RANKS = ("LOCAL_RANK", "RANK", "SLURM_PROCID")

AFTERWARDS = {
    "fit": "outside of its training steps: no step is lost; go on with --ckpt_path and the folder of the run",
    "predict": "the images that are drawn stay, the same command draws the others",
    "search": "what is measured stays, the same command goes on",
    "paint": "the page is no longer served",
    "adapt": "what is done stays, the same command goes on",
    "cas": "what is done stays, the same command goes on",
    "prepare": "what is written stays, the same command goes on",
}


def main(args: list[str] | None = None) -> None:
    """Run a command; errors that the user can mend end in one line and exit status 1.

    Args:
        args: Arguments after ``tenshot``; those of the process by default. Set TENSHOT_DEBUG=1 for tracebacks.
    """
    argv = sys.argv[1:] if args is None else args
    if not argv or argv[0] in ("-h", "--help"):
        print(HELP.format(commands="\n".join(f"  {name:<10}{text}" for name, text in COMMANDS.items())))
        return
    if argv[0] == "--version":
        print(f"tenshot {version('tenshot')}")
        return
    try:
        with interrupts_end_in_a_line(argv[0]):
            _run(argv)
    except Exception as error:
        mistake = _user_error(error)
        if mistake is None or os.environ.get("TENSHOT_DEBUG"):
            raise
        if not isinstance(mistake, SaidError):
            say(mistake)
        sys.exit(1)


def _user_error(error: BaseException | None) -> InputError | None:
    """The user's mistake behind an exception: the libraries in between wrap it in their own."""
    while error is not None and not isinstance(error, InputError):
        if type(error).__name__ == "MisconfigurationException":  # Lightning's word for it, without importing Lightning
            return InputError(f"--trainer: {' '.join(str(error).split())}")
        error = error.__cause__ or error.__context__
    return error


def _run(argv: list[str]) -> None:
    command = argv[0]
    if command not in COMMANDS:
        raise InputError(f"unknown command {command!r}{did_you_mean(command, COMMANDS)}: see tenshot --help")
    if command == "convert":
        from tenshot.cli.convert import convert

        convert(argv[1:])
    elif command == "prepare":
        from tenshot.cli.prepare import prepare

        prepare(argv[1:])
    elif command == "compare":
        from tenshot.cli.compare import compare

        compare(argv[1:])
    elif command == "adapt":
        from tenshot.cli.adapt import adapt

        adapt(argv[1:])
    elif command == "cas":
        from tenshot.cli.cas import cas

        cas(argv[1:])
    else:
        with signals_held_back() if command == "fit" else nullcontext():
            from tenshot.cli.allocator import keep_freed_memory
            from tenshot.cli.app import run

            keep_freed_memory()
            run(argv)


class Interrupted(SystemExit):
    """Ctrl-C outside of training steps; not KeyboardInterrupt, which Lightning would turn into exit status 1."""

    def __init__(self) -> None:
        super().__init__(SHELLS)


@contextmanager
def signals_held_back() -> Iterator[None]:
    """Keep SIGUSR1 and SIGTERM waiting until the run listens to them (callbacks/preemption.py), or ends."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def interrupts_end_in_a_line(command: str) -> Iterator[None]:
    """Let Ctrl-C end the command with one line and exit status 130, where it would raise KeyboardInterrupt.

    Raises:
        Interrupted: On Ctrl-C.
    """
    process = os.getpid()

    def leave(number: int, frame: FrameType | None) -> None:
        if os.getpid() != process:  # a worker: what it did is left to the process that started it
            os._exit(SHELLS)
        signal.signal(signal.SIGINT, lambda *_: os._exit(SHELLS))  # who asks twice does not wait for cleaning up
        raise Interrupted

    before = signal.getsignal(signal.SIGINT)
    if before != signal.default_int_handler or threading.current_thread() is not threading.main_thread():
        yield
        return
    signal.signal(signal.SIGINT, leave)
    try:
        yield
    except Interrupted:
        if all(os.environ.get(rank, "0") == "0" for rank in RANKS):
            after = AFTERWARDS.get(command, "nothing is written")
            print(f"tenshot: interrupted, {after}", file=sys.stderr)
        raise
    finally:
        signal.signal(signal.SIGINT, before)
