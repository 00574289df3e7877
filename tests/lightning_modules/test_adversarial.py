"""Two players, several optimisers: closed forms on two numbers."""

from collections.abc import Mapping, Sequence
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

from tenshot.callbacks import EMA, FullySharded
from tenshot.errors import InputError
from tenshot.lightning_modules.adversarial import AdversarialModule, GANAdam, lazily


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


def test_a_weight_that_a_step_does_not_reach_has_a_gradient_of_zero(tmp_path: Path):
    class Unused(Two):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(1, 1)

        def players(self) -> Mapping[Any, Sequence[nn.Module]]:
            return {"generator": [self.g], "discriminator": [self.d, self.head]}

        def configure_optimizers(self) -> Any:
            of = self.players()
            return [GANAdam([p for m in of[name] for p in m.parameters()]) for name in of]

    module = Unused()
    before = module.head.weight.clone()
    tiny.trainer(tmp_path, 2).fit(module, tiny.faces())
    states = module.optimizers()[1].optimizer.state  # type: ignore[index,union-attr]
    assert torch.equal(module.head.weight, before)
    assert states[module.head.weight]["step"] == 2
    assert states[module.head.weight]["exp_avg_sq"].item() == 0
    assert all(p.requires_grad for p in module.parameters())


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
def test_an_average_by_pictures_has_the_same_half_life_at_any_batch(tmp_path: Path, batch: int, half_life: int):
    ema = EMA(half_life=half_life)
    tiny.trainer(tmp_path, 1, ema=ema).fit(tiny.ddpm(), tiny.faces(batch_size=batch))
    steps = half_life / batch
    assert ema.decay**steps == pytest.approx(0.5)


def test_a_half_life_of_nothing_is_refused():
    with pytest.raises(InputError, match=r"ema\.half_life is 0: choose at least one picture"):
        EMA(half_life=0)


@pytest.mark.parametrize("strategy", [FSDPStrategy, ModelParallelStrategy, FullySharded])
def test_weights_that_are_shared_out_are_refused(strategy: Any):
    """Penalties differentiate twice, which goes past the hooks that gather weights."""
    module = Two()
    module._trainer = cast(Any, SimpleNamespace(strategy=strategy()))
    complaint = rf"^--trainer\.strategy {strategy.__name__} shards weights, which the penalties of Two .*: take ddp$"
    with pytest.raises(InputError, match=complaint):
        module.on_fit_start()
