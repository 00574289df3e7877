"""Floating point operations of a training step, against closed forms."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from clocked import OPERATIONS, Clock, Data, Net, column, fit
from lightning.pytorch import Callback
from torch import Tensor, nn

from tenshot import lightning_modules
from tenshot.callbacks import StepCheckpoint, Throughput, throughput
from tenshot.callbacks.throughput import Operations
from tenshot.lightning_modules.regularization import Regularization
from tenshot.models.stylegan2.conv import conv2d
from tenshot.models.stylegan2.fir import fir_resample


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(throughput, "monotonic", clock)
    return clock


def test_operations_are_those_of_the_closed_form(tmp_path: Path):
    counting = Throughput()
    fit(tmp_path, Net(), Data(4), 1, counting)
    assert counting.operations == {(): OPERATIONS}


def test_operations_of_all_micro_batches_are_counted_and_those_of_other_callbacks_are_not(tmp_path: Path):
    class Busy(Callback):
        def on_train_batch_end(self, *arguments: Any) -> None:
            torch.ones(64, 64) @ torch.ones(64, 64)

    counting = Throughput()
    fit(tmp_path, Net(), Data(4), 2, counting, Busy(), accumulate_grad_batches=3)
    assert counting.operations == {(): OPERATIONS}


def test_our_own_functions_are_seen_through(monkeypatch: pytest.MonkeyPatch):
    """Norm, activation and convolution of a U-Net are one Function, as are the convolutions and filters of a GAN."""
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")  # which does them straightforwardly
    module = tiny.randomised(tiny.ddpm())
    x, t = torch.randn(2, 3, 16, 16), torch.tensor([3, 5])
    sizes: list[int] = []
    for layer in module.unet.modules():
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(lambda own, _, out: sizes.append(2 * out.numel() * own.weight[0].numel()))
    with torch.no_grad(), Operations() as plain:
        module.unet(x, t)
    assert 0.9 < sum(sizes) / plain.count < 1  # the rest is attention, and the embedding of timesteps
    with Operations() as forward:
        loss = module.unet(x, t).square().mean()
    with Operations() as backward:
        loss.backward()
    assert forward.count == plain.count
    assert 1.9 < backward.count / forward.count < 2.1

    counts = []
    for convolve in (conv2d, nn.functional.conv2d):
        maps, weight = torch.randn(2, 3, 8, 8, requires_grad=True), torch.randn(5, 3, 3, 3, requires_grad=True)
        with Operations() as operations:
            convolve(maps, weight, padding=1).square().sum().backward()
        counts.append(operations.count)
    assert counts == [3 * 2 * (2 * 5 * 8 * 8) * (3 * 9)] * 2
    with Operations() as filtering:
        fir_resample(maps, torch.ones(4), padding=(2, 1)).square().sum().backward()
    assert filtering.count == 2 * (2 * (2 * 3 * 8 * 8) * 16)


def test_lazy_penalties_of_a_gan_are_counted_where_they_fall(tmp_path: Path, clock: Clock):
    """One step of each kind is counted; a row tells of the kinds of its own steps."""
    counting = Throughput()
    module = tiny.gan(regularization=Regularization(r1_every=9, path_length_every=3))

    class Second(Callback):
        def on_train_batch_start(self, *arguments: Any) -> None:
            clock.now += 1

    fit(tmp_path, module, tiny.faces(image_size=32), 7, counting, Second(), log_every_n_steps=7)
    kinds = counting.operations
    assert set(kinds) == {(True, True), (False, True), (False, False)}
    assert kinds[True, True] > kinds[False, True] > kinds[False, False] > 0
    # of seven steps three are warm-up, the fourth is counted and so not timed, and the last has a path length
    expected = 4 * (2 * kinds[False, False] + kinds[False, True]) / 3 / 1e12
    assert column(tmp_path, "speed/model_tflops") == {6: pytest.approx(expected)}
    assert column(tmp_path, "speed/steps_per_second") == {6: pytest.approx(1)}


@pytest.mark.parametrize(
    ("name", "patches"), [("CDC", lambda step: step % 4 != 0), ("MixDL", lambda step: step % 2 == 1)]
)
def test_steps_that_judge_patches_are_counted_by_themselves(tmp_path: Path, name: str, patches: Callable[[int], bool]):
    """They compute a part of the discriminator, and MixDL's draw and compare more besides."""
    rest, start = Regularization(r1=0.0, path_length=0.0), {}
    if name == "CDC":
        fit(tmp_path / "source", tiny.gan(), tiny.faces(image_size=32), 1, StepCheckpoint())
        start = {"init_from": str(tmp_path / "source")}
    module, counting = tiny.gan(getattr(lightning_modules, name), regularization=rest, **start), Throughput()
    fit(tmp_path / "run", module, tiny.faces(image_size=32), 5, counting, log_every_n_steps=10)
    assert [module.phases(step)[2] for step in range(8)] == [patches(step) for step in range(8)]
    kinds = counting.operations
    assert set(kinds) == {(False, False, False), (False, False, True)}
    assert (kinds[False, False, True] < kinds[False, False, False]) == (name == "CDC")


def test_training_is_the_same_to_the_last_bit(tmp_path: Path):
    def weights(*callbacks: Callback) -> dict[str, Tensor]:
        torch.manual_seed(0)
        gan = tiny.gan()
        fit(tmp_path, gan, tiny.faces(image_size=32), 2, *callbacks, logger=False)
        torch.manual_seed(0)
        ddpm = tiny.ddpm(unet=tiny.unet_config(dropout=0.3))
        fit(tmp_path, ddpm, tiny.faces(), 2, *callbacks, logger=False)
        return {**gan.state_dict(), **ddpm.state_dict()}

    tiny.assert_same(weights(Throughput()), weights())


def test_a_step_that_fails_is_no_longer_counted(tmp_path: Path):
    def fail(step: int) -> None:
        raise RuntimeError("broken")

    counting = Throughput()
    with pytest.raises(RuntimeError, match="broken"):
        fit(tmp_path, Net(fail), Data(), 1, counting)
    with Operations() as mine:
        torch.ones(2, 3) @ torch.ones(3, 4)
    assert mine.count == 2 * 2 * 3 * 4
    assert counting._counter is None
