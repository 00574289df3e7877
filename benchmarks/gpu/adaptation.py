"""A step of DDPM-PA at 256 px against a plain one and against its authors' code, and drawing by DDIM."""

from collections.abc import Callable
from dataclasses import replace

from benchmarks.gpu import adm, checkouts
from benchmarks.gpu.record import Context, Values, release
from benchmarks.parts import official, ours
from benchmarks.parts.program import Program
from benchmarks.parts.settings import Setting
from tenshot.models.float32 import float32_products

STAGE = "adaptation"
DRAWN = 4
PRECISION = {"precision": "bf16-mixed"}


def run(context: Context, part: str) -> None:
    """Parts ``ours`` and ``authors``."""
    {"ours": run_ours, "authors": run_authors}[part](context)


def run_ours(context: Context) -> None:
    """Rows ``DDPM``, ``DDPM-PA, all compared``, ``DDPM-PA, 3 compared``, ``DDIM-25``, in bf16; then steps with as many
    images as recipes give a GPU.
    """
    setting, half = adm.setting(context), not context.dry

    def step(name: str, build: Callable[[Setting, bool], Program], batch: int = setting.batch) -> None:
        with float32_products(tf32=True):
            sized = replace(setting, batch=batch)
            context.run(STAGE, name, lambda: adm.timed(context, build(sized, half)) | {"batch": batch, **PRECISION})
        release()

    def all_compared(setting: Setting, half: bool) -> Program:
        return ours.adaptation(setting, half, anchors=None)

    step("DDPM", ours.training)
    step("DDPM-PA, all compared", all_compared)
    step("DDPM-PA, 3 compared", ours.adaptation)
    context.run(STAGE, "DDIM-25", lambda: drawing(context))
    release()
    if not context.dry:
        step("DDPM, batch 3", ours.training, 3)
        step("DDPM, batch 6", ours.training, 6)
        step("DDPM-PA, all compared, batch 3", all_compared, 3)


def drawing(context: Context) -> Values:
    """A chain of 25 steps, bf16, as ``tenshot predict`` draws a batch."""
    setting = adm.setting(context, DRAWN)
    program = ours.sampling(setting, not context.dry)
    with float32_products(tf32=False):  # what is drawn is never in TF32
        found = adm.timed(context, program, warmup=1)
    return found | {"batch": setting.batch, "images_per_s": 1000 * setting.batch / found["ms"]}


def run_authors(context: Context) -> None:
    """Row ``authors' code, float16``."""
    path = checkouts.checkout(context, STAGE, "DOMAINSTUDIO")
    if path is None:
        return

    def step(batch: int) -> Values:
        official.load("adaptation")
        return adm.timed(context, official.adaptation(adm.setting(context, batch), half=not context.dry))

    with checkouts.modules_of(path):  # which compares three images, whatever the batch
        context.run(STAGE, "authors' code, float16", lambda: adm.largest_that_fits(step, (adm.BATCH, 4, 3)))
    release()
