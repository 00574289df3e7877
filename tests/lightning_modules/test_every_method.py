"""Every method in every precision, and what a training step must not ask of a GPU."""

import sys
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import every_method
import pytest
import tiny
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.plugins import MixedPrecision
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from tenshot.callbacks import EMA, StepSeed

STEPS = {"32-true": 4, "bf16-mixed": 2, "16-mixed": 2}
"""Each with all regularisers and ways to judge; the longer one with each of them also after the first step."""
aten = torch.ops.aten
READS = {aten._local_scalar_dense, aten.nonzero, aten.equal, aten.masked_select, aten._unique2, aten.unique_dim}
COPIES = {Tensor.cpu, Tensor.tolist, Tensor.numpy}
ON_THE_HOST = ("/torch/optim/", "/torch/utils/data/", "/datamodules/")  # counts of steps, and batches to come
ON_CPUS_ALONE = {"_enlargement", "host_seeds", "_refuse_unfit"}
"""Read points where they are on a CPU; numbers of a CPU; batches before they are moved."""


@dataclass
class Seen:
    """What a fit did."""

    losses: list[Mapping[str, float]] = field(default_factory=list)
    moved: set[str] = field(default_factory=set)
    scales: list[float] = field(default_factory=list)
    reads: set[str] = field(default_factory=set)
    norms: set[str] = field(default_factory=set)


def _place() -> str | None:
    """Which line of ours or of Lightning's is running; none where the work is the host's own."""
    inner = ""
    for frame, line in traceback.walk_stack(sys._getframe()):  # the innermost first
        file = frame.f_code.co_filename
        if frame.f_code.co_name in ON_CPUS_ALONE:
            return None
        if file != __file__:
            inner += f"{file}:{line}\n"
            if "/torch/" not in file:
                break
    return None if any(part in inner for part in ON_THE_HOST) else inner.splitlines()[-1]


class WatchOperators(TorchDispatchMode):
    """Note operators that wait for a GPU, and those that refuse a memory format there."""

    def __init__(self, seen: Seen) -> None:
        super().__init__()
        self.seen = seen

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        packet = func.overloadpacket
        masks = packet in (aten.index, aten.index_put, aten.index_put_) and any(
            index is not None and index.dtype == torch.bool for index in args[1]
        )
        if (packet in READS or masks) and (place := _place()):
            self.seen.reads.add(f"{packet} at {place}")
        if "group_norm" in str(packet) and not args[0].is_contiguous():
            self.seen.norms.add(f"{packet} at {_place()}")
        return func(*args, **(kwargs or {}))


class WatchCopies(TorchFunctionMode):
    """Note copies to the host."""

    def __init__(self, seen: Seen) -> None:
        super().__init__()
        self.seen = seen

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if (func in COPIES or (func is Tensor.to and args[1:2] == ("cpu",))) and (place := _place()):
            self.seen.reads.add(f"{func.__name__} at {place}")
        return func(*args, **(kwargs or {}))


class Watch(Callback):
    """Watch from the second step on: whatever the first prepares may wait."""

    def __init__(self, seen: Seen, watched: bool) -> None:
        self.seen = seen
        self.modes = (WatchCopies(seen), WatchOperators(seen)) if watched else ()

    def on_train_batch_start(self, trainer: Trainer, module: LightningModule, batch: Any, batch_idx: int) -> None:
        if batch_idx == 0 and trainer.current_epoch == 0:
            self.before = {name: weight.detach().clone() for name, weight in module.named_parameters()}
        if trainer.global_step == 1:
            for mode in self.modes:
                mode.__enter__()

    def on_train_batch_end(
        self, trainer: Trainer, module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.seen.losses.append(dict(outputs) if isinstance(outputs, Mapping) else {"loss": outputs})

    def on_train_end(self, trainer: Trainer, module: LightningModule) -> None:
        for mode in reversed(self.modes):
            mode.__exit__(None, None, None)
        self.seen.losses = [{name: float(value) for name, value in step.items()} for step in self.seen.losses]
        self.seen.moved = {n for n, weight in module.named_parameters() if not torch.equal(weight, self.before[n])}
        scalers = getattr(module, "_scalers", {}).values() or [getattr(trainer.precision_plugin, "scaler", None)]
        self.seen.scales = [scaler.get_scale() for scaler in scalers if scaler is not None]


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return every_method.sources(tmp_path_factory.mktemp("sources"))


@pytest.fixture(scope="module")
def fitted(sources: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    @cache
    def fit(method: str, precision: str) -> Seen:
        seen = Seen()
        plugin = [] if precision == "32-true" else [MixedPrecision(precision, "cpu")]
        trainer = Trainer(
            max_steps=STEPS[precision], accelerator="cpu", logger=False, enable_progress_bar=False, plugins=plugin,
            enable_model_summary=False, enable_checkpointing=False, default_root_dir=tmp_path_factory.mktemp("fit"),
            callbacks=[StepSeed(seed=3), EMA(0.9), Watch(seen, precision == "32-true")],
        )  # fmt: skip
        trainer.fit(every_method.METHODS[method](sources), every_method.data_for(method))
        return seen

    return fit


@pytest.mark.parametrize("precision", STEPS)
@pytest.mark.parametrize("method", every_method.METHODS)
def test_every_method_learns_in_every_precision(fitted: Any, method: str, precision: str):
    seen = fitted(method, precision)
    assert len(seen.losses) == STEPS[precision]
    expected = {"loss"}
    if gan := every_method.is_gan(method):
        expected |= {"discriminator", "generator", "r1", "path_length"}
    if method == "PITIUpsampler":
        expected |= {"mse", "vb", "perceptual", "adversarial", "discriminator", "gradient_penalty"}
    assert set().union(*seen.losses) >= expected
    assert all(torch.tensor(list(step.values())).isfinite().all() for step in seen.losses)
    assert any(name.endswith("weight") for name in seen.moved)
    two = gan or method == "PITIUpsampler"
    assert len(seen.scales) == (0 if precision != "16-mixed" else 2 if two else 1)
    assert all(scale >= 1 for scale in seen.scales)


@pytest.mark.parametrize("method", every_method.METHODS)
def test_no_training_step_waits_for_the_device(fitted: Any, method: str):
    assert not fitted(method, "32-true").reads


@pytest.mark.parametrize("method", every_method.METHODS)
def test_no_training_step_gives_channels_last_maps_to_the_library_s_group_norm(fitted: Any, method: str):
    """Off the CPU it refuses them, up to PyTorch 2.13."""
    assert not fitted(method, "32-true").norms


@pytest.mark.parametrize("method", ["DDPM", "NoisyClassifier", "SuperResolution", "PITI", "PITIUpsampler"])
def test_no_validation_step_waits_for_the_device(sources: Path, method: str):
    seen, module, data = Seen(), every_method.METHODS[method](sources), every_method.data_for(method)
    data.setup("fit")
    batch = data.on_after_batch_transfer(next(iter(data.train_dataloader())), 0)
    with WatchCopies(seen), WatchOperators(seen):
        module.validation_step(batch, 0)
    assert not seen.reads


def test_drawing_gives_none_to_it_either():
    seen, module = Seen(), tiny.randomised(tiny.ddpm())
    with WatchOperators(seen):
        module.sample(torch.arange(2))
    assert not seen.norms
