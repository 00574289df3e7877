"""How many files a reader of one training step meets, and how often it goes from one to another."""

import sys
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import tiny
from lightning.pytorch import LightningModule

from tenshot.callbacks import StepCheckpoint
from tenshot.lightning_modules import CDC, MixDL


class Trace:
    """A hook of the profiler: which modules of tenshot are called in, and calls from one of a method to another."""

    def __init__(self) -> None:
        self.modules, self.moves = set[str](), list[tuple[str, str]]()

    def __call__(self, frame: FrameType, event: str, argument: Any) -> None:
        module = frame.f_globals.get("__name__", "")
        if event != "call" or not module.startswith("tenshot."):
            return
        self.modules.add(module)
        caller = frame.f_back
        while caller is not None and not of_methods(caller):
            caller = caller.f_back
        if caller is not None and of_methods(frame) and caller.f_globals["__name__"] != module:
            self.moves.append((caller.f_globals["__name__"], module))


def of_methods(frame: FrameType) -> bool:
    return frame.f_globals.get("__name__", "").startswith("tenshot.lightning_modules.")


def traced(folder: Path, module: LightningModule, **data: Any) -> list[Trace]:
    """What two steps passed through."""
    step, traces = module.training_step, list[Trace]()

    def training_step(*arguments: Any) -> Any:
        traces.append(Trace())
        before = sys.getprofile()
        sys.setprofile(traces[-1])
        try:
            return step(*arguments)
        finally:
            sys.setprofile(before)

    module.training_step = training_step  # type: ignore[method-assign, assignment]
    tiny.trainer(folder, 2).fit(module, tiny.faces(**data))
    return traces


def cdc(folder: Path) -> LightningModule:
    tiny.trainer(folder, 1, StepCheckpoint()).fit(tiny.gan(), tiny.faces(image_size=32))
    return tiny.gan(CDC, init_from=str(folder / "checkpoints" / "step=00000001.ckpt"))


def ddpm_pa(folder: Path) -> LightningModule:
    folder.mkdir()
    return tiny.ddpm_pa(tiny.weights_file(folder / "source.safetensors", tiny.ddpm()))


METHODS = {
    "DDPM": (lambda folder: tiny.ddpm(), -1, 0),
    "DDPMPA": (ddpm_pa, 1, 2),
    "StyleGAN2": (lambda folder: tiny.gan(), 5, 14),
    "CDC": (cdc, 5, 12),
    "MixDL": (lambda folder: tiny.gan(MixDL), 5, 12),
}


@pytest.mark.parametrize("method", METHODS)
def test_a_step_is_read_in_few_files(tmp_path: Path, method: str):
    """As published: the first step has both regularisers and is on whole images, the second has none, on patches."""
    make, least, most = METHODS[method]
    module = make(tmp_path / "source")
    first, second = traced(tmp_path / "run", module, image_size=16 if method.startswith("DDPM") else 32)
    for trace in (first, second):
        assert module.__class__.__module__ in trace.modules
        assert least < len(trace.moves) <= most, trace.moves
        outside = {name for name in trace.modules if not name.startswith("tenshot.models.")}
        assert len(outside) <= 8, sorted(outside)
