"""Training of StyleGAN2 as the stages measure it: under a Trainer, each phase timed."""

import itertools
import logging
import statistics
import time
import warnings
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer

from benchmarks.gpu.record import Context, Values
from benchmarks.gpu.timing import REPEATS
from benchmarks.parts.settings import Setting, random_images
from tenshot.callbacks import EMA, NanGuard, StepSeed
from tenshot.lightning_modules import StyleGAN2
from tenshot.lightning_modules.adversarial import GANAdam
from tenshot.lightning_modules.regularization import Regularization
from tenshot.models import StyleGAN2Config
from tenshot.models.augmentation import AdaptiveAugment, DiffAugment
from tenshot.models.float32 import float32_products

BATCH, WARMUP = 16, 3
PHASES = {"discriminator_terms": "d", "r1_terms": "r1", "generator_terms": "g", "path_length_terms": "path_length"}
R1_EVERY, PATH_LENGTH_EVERY = 16, 4


def amortised(plain: float, r1: float, path_length: float) -> float:
    """Milliseconds of an iteration, regularisers as often as in the long run."""
    return plain + r1 / R1_EVERY + path_length / PATH_LENGTH_EVERY


def size(context: Context) -> tuple[StyleGAN2Config, int]:
    """The published architecture of 256 px and its batch; dry, a tiny one."""
    if context.dry:
        return StyleGAN2Config(image_size=8, channel_base=64, max_channels=8, latent_dim=8, mapping_layers=2), 4
    return StyleGAN2Config(image_size=256, channel_base=32768, mapping_layers=8), BATCH


@dataclass
class Fitted:
    """What some iterations took.

    Args:
        phases: By name, milliseconds of each of its steps.
        iterations: Milliseconds from the beginning of one to that of the next, all four phases in each.
        peak_gib: On a GPU.
        batch: Images.
        precision: Of the Trainer.
    """

    phases: Mapping[str, Sequence[float]]
    iterations: Sequence[float]
    peak_gib: float | None
    batch: int
    precision: str

    def values(self) -> Values:
        """Of a row: medians with their 10 and 90 % points, and the amortised iteration."""
        found: Values = {"batch": self.batch, "precision": self.precision}
        found |= {"repeats": len(self.iterations), "peak_gib": self.peak_gib}
        ms = {name: statistics.median(times) for name, times in self.phases.items()}
        for name, times in self.phases.items():
            ordered, last = sorted(times), len(times) - 1
            found |= {f"{name}_ms": ms[name]}
            found |= {f"{name}_ms_10": ordered[round(0.1 * last)], f"{name}_ms_90": ordered[round(0.9 * last)]}
        rest = max(0.0, statistics.median(self.iterations) - sum(ms.values()))
        plain = ms["d"] + ms["g"] + rest
        return found | {
            "rest_ms": rest, "plain_ms": plain, "ms": amortised(plain, ms.get("r1", 0.0), ms.get("path_length", 0.0)),
        }  # fmt: skip


class Clock(Callback):
    """Times the phases of a StyleGAN2 and its iterations: events on a GPU, read at the end."""

    def __init__(self, module: StyleGAN2, device: torch.device, warmup: int) -> None:
        self.device, self.warmup = device, warmup
        self.phases: dict[str, list[tuple[Any, Any]]] = defaultdict(list)
        self.starts: list[Any] = []
        self.optimise = module.optimise
        module.optimise = self.timed  # type: ignore[method-assign]

    def now(self) -> Any:
        """An event, or the seconds."""
        if self.device.type != "cuda":
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def timed(self, player: Any, parts: Sequence[Any], counted: bool = False) -> Any:
        """The module's step of a player."""
        begin = self.now()
        terms = self.optimise(player, parts, counted)
        self.phases[PHASES[parts[0].func.__name__]].append((begin, self.now()))
        return terms

    def on_train_batch_start(self, *_: Any) -> None:
        """An iteration begins; after the first ones the peak of memory is counted anew."""
        if len(self.starts) == self.warmup and self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        self.starts.append(self.now())

    def found(self, batch: int, precision: str) -> Fitted:
        """What was measured after the first iterations, of a fit with such batches."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        marks = self.starts[self.warmup :]
        phases = {n: [self.ms(*pair) for pair in pairs[self.warmup :]] for n, pairs in self.phases.items()}
        peak = torch.cuda.max_memory_allocated(self.device) / 2**30 if self.device.type == "cuda" else None
        iterations = [self.ms(begin, end) for begin, end in itertools.pairwise(marks)]
        return Fitted(phases, iterations, peak, batch, precision)

    def ms(self, begin: Any, end: Any) -> float:
        """Between two of them."""
        return begin.elapsed_time(end) if self.device.type == "cuda" else 1000 * (end - begin)


class Batches:
    """What the Trainer takes for a data loader: one batch of noise again and again."""

    def __init__(self, images: torch.Tensor) -> None:
        self.images = images

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        while True:
            yield {"image": self.images}


def fitted(
    context: Context,
    precision: Any,
    tf32: bool = True,
    iterations: int = REPEATS + 1,
    batch: int | None = None,
    augmentation: DiffAugment | AdaptiveAugment | None = None,
) -> Fitted:
    """Iterations under a Trainer with the callbacks of every run, both regularisers at each."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")
    warmup, iterations = (0, 2) if context.dry else (WARMUP, iterations)
    config, usual = size(context)
    batch = batch or usual
    adam = partial(GANAdam, fused=True)
    every_step = Regularization(r1_every=1, path_length_every=1)
    module = StyleGAN2(config, optimizer_g=adam, optimizer_d=adam, regularization=every_step, augmentation=augmentation)
    clock = Clock(module, context.device, warmup)
    trainer = Trainer(
        accelerator="gpu" if context.device.type == "cuda" else "cpu", devices=1, precision=precision,
        max_steps=warmup + iterations, callbacks=[StepSeed(0), NanGuard(), EMA(0.999), clock], logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        default_root_dir=context.folder,
    )  # fmt: skip
    images = random_images(Setting(batch, config.image_size, device=context.device))
    with float32_products(tf32):
        trainer.fit(module, Batches(images))
    return clock.found(batch, precision)
