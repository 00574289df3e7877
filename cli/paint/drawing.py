"""Drawing what the page asks for, one after the other, with the weights of the run loaded once."""

import base64
import hashlib
import io
import json
import queue
import socket
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from threading import Event
from types import SimpleNamespace
from typing import Any, cast

import torch
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from tenshot.callbacks.drawn_by import DrawnBy, drawn_by, options_of
from tenshot.callbacks.image_writer import to_uint8
from tenshot.cli.out_of_memory import is_out_of_memory, out_of_memory
from tenshot.cli.paint.canvas import Canvas, Drawable, canvas_for
from tenshot.cli.paint.server import serving
from tenshot.datamodules.batches import CONDITION_IMAGE
from tenshot.datamodules.conditions import Conditions
from tenshot.datamodules.samples import MOST, SEEDS, SeedBatches
from tenshot.distributed.seeding import CPU_BATCH
from tenshot.errors import InputError, check_range
from tenshot.lightning_modules import PITI, Cascade, Sampler
from tenshot.lightning_modules.drawing import in_precision
from tenshot.lightning_modules.guidance import ClassifierFreeGuidance

__all__ = ["Drawing", "NoImages", "Paint", "Wish"]

TOGETHER = CPU_BATCH
"""Samples drawn at a time: what a CPU computes in any case."""
MOST_SAMPLES = 64
"""For one drawing."""
BETWEEN = 0.3
"""Seconds at least between two looks at samples that are being drawn."""
RECORD = "drawn_by"
"""Of the text in a PNG that says what drew it."""

Tell = Callable[[Mapping[str, Any]], None]


@dataclass(frozen=True)
class Wish:
    """What is to be drawn.

    Args:
        condition: uint8 (C, S, S).
        seed: Of the samples.
        first: Number of the first sample.
        count: How many; sample k has the seed that ``predict`` gives to image k of that seed.
        sampler: How; of it method and steps, all else is the run's.
        scale: Of classifier-free guidance; 1 for none.
    """

    condition: Tensor
    seed: int
    first: int
    count: int
    sampler: Sampler
    scale: float

    def __post_init__(self) -> None:
        check_range("seed", self.seed, 0, SEEDS - 1)
        check_range("samples", self.count, 1, MOST_SAMPLES)
        check_range("first sample", self.first, 0, MOST - MOST_SAMPLES)
        check_range("guidance", self.scale, 1)


@dataclass(frozen=True)
class Drawing:
    """A wish, whom to tell what became of it, and whether it is still wanted.

    What is told: ``{"steps": [done, all], "first": k, "images": […]}`` while samples from number k on are drawn, with
    estimates of them now and then; ``{"number": k, "image": …}`` of each that is finished, a PNG in base64 that holds
    the record of what drew it; ``{"error": line}``; and at the end ``{"end": true}``.
    """

    wish: Wish
    tell: Tell
    stopped: Event = field(default_factory=Event)


class Stopped(Exception):
    """Nobody waits for the drawing any more."""


class Paint(Callback):
    """Serve the page in place of predicting, and draw in the main thread what it asks for, until Ctrl-C.

    Args:
        listening: Where the page is served.
        data: Of the run, or none; for examples and classes.
        kind: What conditions are, where the data do not tell.
        names: Of classes, by their ids.
    """

    def __init__(self, listening: socket.socket, data: object, kind: Drawable | None, names: dict[int, str]) -> None:
        self.listening, self.data, self.kind, self.names = listening, data, kind, names
        self.wanted: queue.SimpleQueue[Drawing] = queue.SimpleQueue()
        self.canvas: Canvas
        self.by: DrawnBy
        self._step = 0

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Note its step."""
        self._step = checkpoint["global_step"]

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Serve, and draw until the end.

        Raises:
            InputError: The method draws from nothing that can be drawn by hand.
        """
        self.canvas = canvas_for(pl_module, self.data, self.kind, self.names)
        method = cast(PITI | Cascade, pl_module)
        self.by = drawn_by(trainer, method, 0, self._step, Conditions("images"))  # EMA has put the average in place
        with serving(self.listening, self.canvas, self.about(method), self.ask) as (address, alive):
            rank_zero_info(f"paint: {address} (Ctrl-C ends it)")
            while alive() and not trainer.received_sigterm:
                with suppress(queue.Empty):
                    self.draw(method, self.wanted.get(timeout=1))

    def about(self, method: PITI | Cascade) -> dict[str, Any]:
        """What the page has to know, as JSON takes it; of a cascade sampler and guidance are its base's."""
        base = _parts(method)[0]
        free, read = base.classifier_free, f"{self.by.origin['weights']} weights of step {self.by.origin['step']}"
        return self.canvas.about() | {
            "method": type(method).__name__,
            "weights": base.weights_origin if isinstance(method, Cascade) else read,
            "checkpoint": method.base if isinstance(method, Cascade) else self.by.origin["checkpoint"],
            "device": str(method.device),
            "sampler": {"method": base.sampler.method, "steps": str(base.sampler.steps)},
            "scale": 1.0 if free is None else free.scale,
            "guidable": base.knows_null,
            "most": MOST_SAMPLES,
            "together": TOGETHER,
        }

    def ask(self, asked: Mapping[str, Any], cells: bytes, tell: Tell) -> Event:
        """Take up what the page asks for.

        Args:
            asked: seed, first, count, method, steps, scale.
            cells: Of the canvas.
            tell: See ``Drawing``; called from the main thread.

        Returns:
            To be set when nobody waits for it any more.

        Raises:
            InputError: It cannot be drawn so.
        """
        numbers = {name: _whole(asked, name) for name in ("seed", "first", "count")}
        scale, steps = asked.get("scale"), asked.get("steps")
        if not isinstance(scale, int | float) or isinstance(scale, bool):
            raise InputError(f"guidance is {scale!r}: choose a number of at least 1")
        if asked.get("method") not in ("ddpm", "ddim", "dpm_solver") or not isinstance(steps, str):
            raise InputError(f"sampler {asked.get('method')!r}, steps {steps!r}: reload the page")
        sampler = Sampler(asked["method"], steps.strip() or None)
        drawing = Drawing(Wish(self.canvas.condition(cells), **numbers, sampler=sampler, scale=scale), tell)
        self.wanted.put(drawing)
        return drawing.stopped

    def draw(self, method: PITI | Cascade, drawing: Drawing) -> None:
        """Draw, and tell of it; what goes wrong is told too and ends nothing."""
        try:
            self._draw(method, drawing)
        except Stopped:
            return
        except InputError as error:
            drawing.tell({"error": str(error)})
        except RuntimeError as error:
            if not is_out_of_memory(error):
                traceback.print_exc()
            told = out_of_memory(error, "paint", method) if is_out_of_memory(error) else _line_of(error)
            drawing.tell({"error": told})
        finally:
            for part in _parts(method):
                part.progress = None
        drawing.tell({"end": True})

    def _draw(self, method: PITI | Cascade, drawing: Drawing) -> None:
        parts = _parts(method)
        base = parts[0]
        wish, as_configured = drawing.wish, (base.sampler, base.classifier_free)
        free = replace(base.classifier_free or ClassifierFreeGuidance(), scale=wish.scale)
        other = SimpleNamespace(
            sampler=replace(base.sampler, method=wish.sampler.method, steps=wish.sampler.steps),
            classifier_free=free if wish.scale != 1 else None,
            guidance=None,
        )
        numbers = torch.arange(wish.first, wish.first + wish.count)
        rows = wish.condition.expand(TOGETHER, *wish.condition.shape)
        try:
            base.draw_as(cast(Any, other))
            record = self._record(method, wish)
            for batch in SeedBatches(numbers, wish.seed, TOGETHER, -(-len(numbers) // TOGETHER)):
                if drawing.stopped.is_set():
                    raise Stopped
                index, seeds = batch["index"].tolist(), batch["seed"].to(method.device)
                for part in parts:
                    part.progress = _progress(drawing, index)
                condition = {CONDITION_IMAGE: rows[: len(seeds)].to(method.device)}
                with in_precision(method):
                    images = method.sample(seeds, condition)
                if not images.isfinite().all():
                    raise InputError("the network's output is not finite: the weights are of no use")
                for number, pixels in zip(index, to_uint8(images), strict=True):
                    drawing.tell({"number": number, "image": _png(pixels, record | {"number": number})})
        finally:
            base.sampler, base.classifier_free = as_configured

    def _record(self, method: PITI | Cascade, wish: Wish) -> dict[str, Any]:
        """As ``drawn_by.json`` beside the images of ``predict``, with a hash of the condition."""
        whose = "base." if isinstance(method, Cascade) else ""
        known = {name: value for name, value in self.by.depends_on.items() if name != f"{whose}classifier_free"}
        options = {
            f"{whose}{name}": value for name, value in options_of(_parts(method)[0]).items() if value or not whose
        }
        depends_on = known | options | {"seed": wish.seed}
        depends_on[f"{CONDITION_IMAGE}_sha256"] = hashlib.sha256(wish.condition.numpy().tobytes()).hexdigest()
        return {**self.by.origin, "depends_on": depends_on}


def _parts(method: PITI | Cascade) -> Sequence[PITI]:
    """What draws, one after the other."""
    return cast(Sequence[PITI], method.generators) if isinstance(method, Cascade) else [method]


class NoImages(LightningDataModule):
    """For a command that predicts nothing but in its callback."""

    def predict_dataloader(self) -> SeedBatches:
        """No batch, though it counts as one: at length 0 Lightning would leave out the hooks around the loop."""
        return SeedBatches(torch.empty(0, dtype=torch.int64), 0, 1, length=1)


def _progress(drawing: Drawing, index: list[int]) -> Callable[[int, int, Tensor], None]:
    """Tells of the steps, now and then with the estimates, and ends a drawing that nobody waits for."""
    shown = time.monotonic()

    def tell(done: int, total: int, x0: Tensor) -> None:
        nonlocal shown
        if drawing.stopped.is_set():
            raise Stopped
        told: dict[str, Any] = {"steps": [done, total], "first": index[0], "images": []}
        if time.monotonic() - shown > BETWEEN and done < total:
            shown = time.monotonic()
            told["images"] = [_png(pixels) for pixels in to_uint8(x0[: len(index)].clamp(-1, 1))]
        drawing.tell(told)

    return tell


def _png(pixels: Tensor, record: Mapping[str, Any] | None = None) -> str:
    """uint8 (H, W, C) as a PNG in base64."""
    file, text = io.BytesIO(), PngInfo()
    if record is not None:
        text.add_text(RECORD, json.dumps(record))
    Image.fromarray(pixels.squeeze(-1).numpy()).save(file, "PNG", pnginfo=text)
    return base64.b64encode(file.getvalue()).decode()


def _whole(asked: Mapping[str, Any], name: str) -> int:
    value = asked.get(name)
    if not isinstance(value, int) or isinstance(value, bool):
        raise InputError(f"{name} is {value!r}: choose a whole number")
    return value


def _line_of(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]} (more in the terminal)"
