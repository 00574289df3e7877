"""What methods with a generator and a discriminator share: several optimisers, driven by hand."""

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal, cast

import torch
import torch.distributed as dist
from lightning.pytorch import LightningModule
from lightning.pytorch.plugins import HalfPrecision
from lightning.pytorch.strategies import FSDPStrategy, ModelParallelStrategy, ParallelStrategy
from torch import Tensor, nn
from torch.optim import Adam, Optimizer
from torch.optim.optimizer import ParamsT

from tenshot.errors import InputError

__all__ = ["AdversarialModule", "GANAdam", "Player", "lazily"]

Player = Literal["generator", "discriminator"]
Terms = dict[str, Tensor]


class AdversarialModule(LightningModule):
    """Two players, each with its modules and its optimiser.

    ``trainer.global_step`` and ``max_steps`` count the generator's main steps: regularisers and the discriminator's
    steps are not counted, though they step optimisers too.

    Gradients are averaged over the ranks here, one flat tensor for each optimiser's step, and DDP's own reduction is
    kept out of it: a step uses one player's weights, and penalties differentiate twice, for neither of which DDP is
    made. So plain ``ddp`` serves, without find_unused_parameters.
    """

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self._scalers: dict[Player, torch.amp.GradScaler] = {}
        self._weights: dict[Player, list[nn.Parameter]] = {}

    @abstractmethod
    def players(self) -> Mapping[Player, Sequence[nn.Module]]:
        """The modules that each player trains."""

    def on_fit_start(self) -> None:
        """Look up each player's weights, and give it a loss scale of its own where there is one (``16-mixed``).

        Raises:
            InputError: The strategy shards weights, or the precision is too low to hold them.
        """
        if isinstance(self.trainer.strategy, FSDPStrategy | ModelParallelStrategy):
            raise InputError(
                f"--trainer.strategy {type(self.trainer.strategy).__name__} shards weights, which the penalties of "
                f"{type(self).__name__} cannot be differentiated through: take ddp"
            )
        plugin = self.trainer.precision_plugin
        if isinstance(plugin, HalfPrecision):
            raise InputError(
                f"--trainer.precision {plugin.precision} rounds the small steps of weights and averages away: take "
                "bf16-mixed"
            )
        players = self.players().items()
        self._weights = {player: [w for module in modules for w in module.parameters()] for player, modules in players}
        if getattr(plugin, "scaler", None) is not None:
            fresh = {player: torch.amp.GradScaler(self.device.type) for player in self._weights}
            for player, scaler in fresh.items():
                if player in self._scalers:
                    scaler.load_state_dict(self._scalers[player].state_dict())
            self._scalers = fresh
        else:
            self._scalers = {}  # of a checkpoint that was trained with one

    def optimise(self, player: Player, parts: Sequence[Callable[[], Terms]], counted: bool = False) -> Terms:
        """One optimiser step of one player; the other's weights are frozen meanwhile.

        Args:
            player: Who.
            parts: For each micro-batch, what makes the weighted terms of its loss, scalars.
            counted: Whether it is a step of ``trainer.global_step``.

        Returns:
            The terms, detached, averaged over the micro-batches.
        """
        optimizers = self.optimizers()
        assert isinstance(optimizers, list)
        optimizer = optimizers[list(self._weights).index(player)]
        if not counted:  # Lightning counts in these two, and sets them anew for each batch
            kept = optimizer._on_before_step, optimizer._on_after_step
            optimizer._on_before_step = optimizer._on_after_step = lambda: None
        if self._scalers:
            self.trainer.precision_plugin.scaler = self._scalers[player]  # type: ignore[attr-defined]
        optimizer.zero_grad()
        totals: Terms = {}
        with self._only(player):
            for make in parts:
                terms = make()
                loss = torch.stack(list(terms.values())).sum() / len(parts)
                # under autocast the derivatives of what is kept in float32 would be reduced
                with self._own_reduction(), torch.autocast(loss.device.type, enabled=False):
                    self.manual_backward(loss)
                for name, value in terms.items():
                    totals[name] = totals.get(name, 0) + value.detach() / len(parts)
            self._average_gradients(player, optimizer.optimizer.state)
            optimizer.step()
        if not counted:
            optimizer._on_before_step, optimizer._on_after_step = kept
        return totals

    @contextmanager
    def _only(self, player: Player) -> Iterator[None]:
        others = [
            weight
            for name, weights in self._weights.items()
            if name != player
            for weight in weights
            if weight.requires_grad  # what a method freezes stays frozen
        ]
        for weight in others:
            weight.requires_grad_(False)
        try:
            yield
        finally:
            for weight in others:
                weight.requires_grad_(True)

    @contextmanager
    def _own_reduction(self) -> Iterator[None]:
        strategy = self.trainer.strategy
        if isinstance(strategy, ParallelStrategy):
            with strategy.block_backward_sync():
                yield
        else:
            yield

    def _average_gradients(self, player: Player, state: Mapping[Tensor, Any]) -> None:
        """The mean over ranks. Frozen weights have no gradient, and are left alone.

        A weight that a step does not use has a gradient of zero, as in the releases of PyTorch that the methods were
        published with, so that the optimiser's second moment decays; but it has none before its first use on any rank,
        so that its optimiser does not count steps till then. Whether it was used is told by the optimiser's state.
        Ranks wait for the device only while there is a weight that was never used.

        Args:
            player: Whose weights.
            state: Of its optimiser: what it knows of each weight that had a gradient once.
        """
        weights = [weight for weight in self._weights[player] if weight.requires_grad]
        fresh = [weight for weight in weights if not state.get(weight)]  # the same on all ranks
        unused = {weight for weight in fresh if weight.grad is None}
        if self.trainer.world_size > 1:
            for weight in weights:
                if weight.grad is None:
                    weight.grad = torch.zeros_like(weight)
            gradients = [cast(Tensor, weight.grad) for weight in weights]
            uses = [weight.new_full((1,), weight not in unused) for weight in fresh]
            flat = torch.cat([*(gradient.flatten() for gradient in gradients), *uses])
            dist.all_reduce(flat)
            flat /= self.trainer.world_size
            *pieces, used = flat.split([*(gradient.numel() for gradient in gradients), len(fresh)])
            torch._foreach_copy_(gradients, [piece.view_as(g) for piece, g in zip(pieces, gradients, strict=True)])
            if unused:
                unused = {weight for weight, share in zip(fresh, used.tolist(), strict=True) if not share}
        for weight in weights:
            if weight in unused:
                weight.grad = None
            elif weight.grad is None:
                weight.grad = torch.zeros_like(weight)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the loss scales."""
        if self._scalers:
            checkpoint["scalers"] = {player: scaler.state_dict() for player, scaler in self._scalers.items()}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the loss scales."""
        for player, state in checkpoint.get("scalers", {}).items():
            self._scalers[player] = torch.amp.GradScaler(self.device.type)
            self._scalers[player].load_state_dict(state)


class GANAdam(Adam):
    """Adam with the values of StyleGAN2 (arXiv 1912.04958): no first moment."""

    def __init__(
        self,
        params: ParamsT,
        lr: float = 0.002,
        betas: tuple[float, float] = (0.0, 0.99),
        eps: float = 1e-8,
        fused: bool | None = None,
    ) -> None:
        super().__init__(params, lr=lr, betas=betas, eps=eps, fused=fused)


def lazily(optimizer: Optimizer, every: int | None) -> Optimizer:
    """Correct an Adam for a regulariser with steps of its own, one after every so many (StyleGAN2, appendix B).

    With c = every / (every + 1) the learning rate becomes lr * c and the decays beta ** c, so that a round of every + 1
    steps moves as far and forgets as much as every steps do without it.

    Args:
        optimizer: Any; without betas only its learning rate is changed.
        every: None: no regulariser, no correction.
    """
    if every is not None:
        share = every / (every + 1)
        for group in optimizer.param_groups:
            group["lr"] *= share
            if "betas" in group:
                group["betas"] = tuple(float(beta) ** share for beta in group["betas"])
    return optimizer
