"""Two players, several optimisers: closed forms on two numbers."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import tiny
import torch
from lightning.pytorch import Callback
from lightning.pytorch.plugins import MixedPrecision
from lightning.pytorch.strategies import FSDPStrategy, ModelParallelStrategy
from torch import Tensor, nn

from tenshot.callbacks import EMA, StepCheckpoint
from tenshot.errors import InputError
from tenshot.lightning_modules import Regularization
from tenshot.lightning_modules.adversarial import AdversarialModule, GANAdam, lazily
from tenshot.run import FullySharded


class Two(AdversarialModule):
    """Each player is one number; a player's loss is a multiple of the product of both."""

    def __init__(self, losses: Any = None, every: int = 2) -> None:
        super().__init__()
        self.g, self.d = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
        for player, value in ((self.g, 2.0), (self.d, 3.0)):
            nn.init.constant_(player.weight, value)
        self.losses, self.every, self.calls = losses or self.product, every, []  # type: ignore[var-annotated]

    def product(self, factor: float) -> Tensor:
        return factor * (self.g.weight * self.d.weight).sum()

    def players(self) -> Mapping[Any, Sequence[nn.Module]]:
        return {"generator": [self.g], "discriminator": [self.d]}

    def configure_optimizers(self) -> Any:
        return [torch.optim.SGD(player.parameters(), lr=0.1) for player in (self.g, self.d)]

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        step = self.trainer.global_step
        self.calls.append(("d", step))
        self.optimise("discriminator", [lambda: {"a": self.losses(1.0)}, lambda: {"a": self.losses(2.0)}])
        if step % self.every == 0:
            self.calls.append(("g-regulariser", step))
            self.optimise("generator", [lambda: {"r": self.losses(10.0)}])
        self.calls.append(("g", step))
        terms = self.optimise("generator", [lambda: {"x": self.losses(-1.0), "y": self.losses(4.0)}], counted=True)
        return torch.stack(list(terms.values())).sum()


class Moves(Callback):
    """The two numbers after each batch."""

    def __init__(self) -> None:
        self.seen: list[tuple[float, float]] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *rest: Any) -> None:
        self.seen.append((pl_module.g.weight.item(), pl_module.d.weight.item()))


def test_steps_are_those_of_plain_gradient_descent_and_only_one_of_three_is_counted(tmp_path: Path):
    module, moves = Two(), Moves()
    trainer = tiny.trainer(tmp_path, 3, moves)
    trainer.fit(module, tiny.faces())

    g, d, expected = 2.0, 3.0, []
    for step in range(3):
        d -= 0.1 * 1.5 * g  # the mean of two micro-batches
        if step % 2 == 0:
            g -= 0.1 * 10 * d
        g -= 0.1 * 3 * d
        expected.append((g, d))
    assert moves.seen == [pytest.approx(pair, rel=1e-5) for pair in expected]
    assert trainer.global_step == 3
    assert [call for call in module.calls if call[0] == "g"] == [("g", 0), ("g", 1), ("g", 2)]
    assert len(module.calls) == 8


class Sometimes(Two):
    """The discriminator has a second number, which its loss uses at some steps only: gradient 4."""

    def __init__(self, at: Sequence[int] = ()) -> None:
        super().__init__()
        self.head, self.at = nn.Linear(1, 1, bias=False), at

    def players(self) -> Mapping[Any, Sequence[nn.Module]]:
        return {"generator": [self.g], "discriminator": [self.d, self.head]}

    def configure_optimizers(self) -> Any:
        return [GANAdam([p for m in modules for p in m.parameters()]) for modules in self.players().values()]

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        used = 4 * self.head.weight.sum() if self.trainer.global_step in self.at else torch.zeros(())
        self.optimise("discriminator", [lambda: {"a": self.losses(1.0) + used}])
        self.optimise("generator", [lambda: {"x": self.losses(-1.0)}], counted=True)
        return torch.zeros(())

    def state_of(self, weight: Tensor) -> dict[str, Any]:
        optimizer = self.optimizers()[1].optimizer  # type: ignore[index,union-attr]
        return dict(optimizer.state.get(weight, {}))


def test_a_weight_that_was_never_used_has_no_gradient_and_after_its_first_use_one_of_zero(tmp_path: Path):
    """As with gradients that are set to zero, not to none, which was PyTorch's way when the methods were published."""
    never, once = Sometimes(), Sometimes(at=[1])
    before = never.head.weight.clone()
    for module in (never, once):
        tiny.trainer(tmp_path, 5).fit(module, tiny.faces())
    assert torch.equal(never.head.weight, before)
    assert never.state_of(never.head.weight) == {}
    assert never.state_of(never.d.weight)["step"] == 5
    state = once.state_of(once.head.weight)
    assert state["step"] == 4
    assert state["exp_avg_sq"].item() == pytest.approx(0.01 * 4**2 * 0.99**3)
    assert all(p.requires_grad for p in once.parameters())


@pytest.mark.parametrize("at", [[0], [1], [2], [3], []])
def test_a_resumed_run_knows_from_the_optimiser_what_was_used(tmp_path: Path, at: list[int]):
    def states(module: Sometimes) -> list[Any]:
        return [module.state_dict(), [module.state_of(p) for p in module.parameters()]]

    whole, half, rest = (Sometimes(at=at) for _ in range(3))
    tiny.assert_same(whole.state_dict().keys(), half.state_dict().keys())
    for module in (half, rest):
        module.load_state_dict(whole.state_dict())
    tiny.trainer(tmp_path / "whole", 4).fit(whole, tiny.faces())
    tiny.trainer(tmp_path / "half", 2, StepCheckpoint()).fit(half, tiny.faces())
    path = tmp_path / "half" / "checkpoints" / "step=00000002.ckpt"
    tiny.trainer(tmp_path / "half", 4).fit(rest, tiny.faces(), ckpt_path=path)
    tiny.assert_same(states(rest), states(whole))


def test_what_a_method_freezes_stays_frozen_and_unchanged(tmp_path: Path):
    """As FreezeD does with the first layers of the discriminator."""
    module = tiny.gan(regularization=Regularization(r1_every=1, path_length_every=1))
    frozen = [module.discriminator.from_rgb, module.discriminator.blocks[0], module.generator.mapper[0]]
    for part in frozen:
        part.requires_grad_(False)
    kept = [{name: value.clone() for name, value in part.state_dict().items()} for part in frozen]
    moving = module.discriminator.blocks[1].conv1.weight.clone()  # type: ignore[union-attr]
    tiny.trainer(tmp_path, 3).fit(module, tiny.faces(image_size=32))
    tiny.assert_same([part.state_dict() for part in frozen], kept)
    weights = {weight for part in frozen for weight in part.parameters()}
    assert [weight.requires_grad for weight in module.parameters()] == [w not in weights for w in module.parameters()]
    states = [optimizer.optimizer.state for optimizer in module.optimizers()]  # type: ignore[union-attr]
    assert not any(weight in state for weight in weights for state in states)
    assert not torch.equal(module.discriminator.blocks[1].conv1.weight, moving)  # type: ignore[union-attr,arg-type]


def test_what_is_frozen_after_some_steps_stays_as_it_is(tmp_path: Path):
    """With a first moment, a gradient of zero would move it further."""

    class Freezes(Sometimes):
        def configure_optimizers(self) -> Any:
            return [
                torch.optim.Adam([p for m in modules for p in m.parameters()]) for modules in self.players().values()
            ]

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            if self.trainer.global_step == 2:
                self.head.requires_grad_(False)
                self.then = deepcopy([self.head.weight.detach(), self.state_of(self.head.weight)])
            return super().training_step(batch, batch_idx)

    module = Freezes(at=[0])
    tiny.trainer(tmp_path, 4).fit(module, tiny.faces())
    assert not module.head.weight.requires_grad
    tiny.assert_same([module.head.weight.detach(), module.state_of(module.head.weight)], module.then)
    assert module.then[1]["step"] == 2


def test_each_player_has_a_loss_scale_of_its_own_and_a_checkpoint_keeps_them(tmp_path: Path):
    class Overflows(Two):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            huge = torch.tensor(float("inf")) if self.trainer.global_step == 0 else 1.0
            self.optimise("discriminator", [lambda: {"a": self.product(1.0) * huge}])
            self.optimise("generator", [lambda: {"x": self.product(1.0)}], counted=True)
            return torch.zeros(())

    module = Overflows()
    plugin = MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu"))
    tiny.trainer(tmp_path, 2, plugins=[plugin]).fit(module, tiny.faces())
    scales = {player: scaler.get_scale() for player, scaler in module._scalers.items()}
    assert scales == {"generator": 65536.0, "discriminator": 32768.0}
    assert module.d.weight.item() == pytest.approx(3 - 0.1 * (2 - 0.1 * 3), rel=1e-3)  # the first step was left out

    checkpoint: dict[str, Any] = {}
    module.on_save_checkpoint(checkpoint)
    again = Two()
    again.on_load_checkpoint(checkpoint)
    assert again._scalers["discriminator"].get_scale() == 32768.0


def test_lazy_regularisation_corrects_adam_as_published():
    """The numbers of both ratios as the official code prints them."""
    weight = [nn.Parameter(torch.zeros(1))]
    [g] = lazily(GANAdam(weight), 4).param_groups
    [d] = lazily(GANAdam(weight), 16).param_groups
    [plain] = lazily(GANAdam(weight), None).param_groups

    assert (g["lr"], *g["betas"]) == pytest.approx((0.0016, 0.0, 0.9919919679), rel=1e-9)
    assert (d["lr"], *d["betas"]) == pytest.approx((0.0018823529411, 0.0, 0.9905854573), rel=1e-9)
    assert (plain["lr"], *plain["betas"]) == (0.002, 0.0, 0.99)


@pytest.mark.parametrize(("batch", "half_life"), [(4, 8), (2, 8), (4, 100)])
def test_an_average_by_images_has_the_same_half_life_at_any_batch(tmp_path: Path, batch: int, half_life: int):
    ema = EMA(half_life=half_life)
    tiny.trainer(tmp_path, 1, ema=ema).fit(tiny.ddpm(), tiny.faces(batch_size=batch))
    steps = half_life / batch
    assert ema.decay**steps == pytest.approx(0.5)


def test_a_half_life_of_nothing_is_refused():
    with pytest.raises(InputError, match=r"ema\.half_life is 0: choose at least 1"):
        EMA(half_life=0)


@pytest.mark.parametrize("strategy", [FSDPStrategy, ModelParallelStrategy, FullySharded])
def test_sharded_weights_are_refused(strategy: Any):
    """Penalties differentiate twice, which goes past the hooks that gather weights."""
    module = Two()
    module._trainer = cast(Any, SimpleNamespace(strategy=strategy()))
    complaint = rf"^--trainer\.strategy {strategy.__name__} shards weights, which the penalties of Two .*: take ddp$"
    with pytest.raises(InputError, match=complaint):
        module.on_fit_start()


@pytest.mark.parametrize("precision", ["bf16-mixed", "16-mixed"])
def test_penalties_in_float32_have_gradients_in_float32(tmp_path: Path, precision: Any):
    """Derivatives that autograd takes under autocast are reduced, whatever the dtype of what they are of."""

    def gradient(*plugins: MixedPrecision) -> dict[str, Tensor]:
        frozen = dict.fromkeys(("optimizer_g", "optimizer_d"), lambda weights: GANAdam(weights, lr=0.0))
        module, found = tiny.gan(regularization=Regularization(r1_every=1, path_length=0.0), **frozen), {}
        optimise = module.optimise

        def noting(player: Any, parts: Any, counted: bool = False) -> Any:
            terms = optimise(player, parts, counted)
            if "r1" in terms:
                found.update({name: weight.grad.clone() for name, weight in module.discriminator.named_parameters()})
            return terms

        module.optimise = noting  # type: ignore[method-assign]
        tiny.trainer(tmp_path, 1, plugins=plugins).fit(module, tiny.faces(image_size=32))
        return found

    expected, found = gradient(), gradient(MixedPrecision(precision, "cpu"))
    assert any(value.abs().max() > 0 for value in expected.values())
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-6 * float(value.abs().max()), msg=name)
