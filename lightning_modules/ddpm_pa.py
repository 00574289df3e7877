"""DDPM-PA: few-shot adaptation that keeps the source's pattern of similarities (arXiv 2211.03264)."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from lightning.pytorch import Callback
from torch import Tensor
from torch.distributed.nn.functional import all_gather

from tenshot.checkpoints import UNET, FrozenSource, Trained, read
from tenshot.checkpoints.kind import plain_fields
from tenshot.diffusion import Denoised, Denoiser
from tenshot.distributed.sharding import is_sharded, shard
from tenshot.errors import InputError, check_range
from tenshot.lightning_modules.ddpm import DDPM
from tenshot.lightning_modules.drawing import in_precision
from tenshot.losses import high_frequency, high_frequency_mse, min_snr_weight, pairwise_similarity_loss
from tenshot.losses.ddpm_pa import Direction, Reduction
from tenshot.models import UNet, UNetConfig

__all__ = ["DDPMPA", "Pairwise"]

AUTOCAST = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}
"""What the source is run in, by the trainer's precision."""


@dataclass(frozen=True)
class Pairwise:
    """The losses that DDPM-PA adds to the diffusion loss. The defaults are the paper's; the published code averages.

    Args:
        image: Weight of the pairwise loss on estimated clean images (lambda_2; the paper: 0.1 to 1).
        high_frequency: Weight of the pairwise loss on their high frequencies (lambda_3; the paper: 0.1 to 1).
        high_frequency_mse: Weight of the distance to the high frequencies of the shots (lambda_4; the paper: 0.01 to
            0.08).
        direction: Under which model's distribution the divergence is taken; the code: ``source||adapted``.
        reduction: ``sum`` over images; the code takes the ``mean`` over pairs, with weights of 4.
        anchors: How many images of a micro-batch are compared with each other, drawn at random; none: all. The
            code: 3.
        pairs: Compare the images of each rank with each other, as published, or those of all ranks.
        mse_weighting: ``uniform`` as published, where the noisiest tenth of the steps makes five sixths of that term
            if the network predicts noise; ``min_snr`` weighs it by min(1, SNR(t)), the ratio of signal to noise.
        source_dropout: Leave the source's dropout on, as the published code does.
    """

    image: float = 2 / 3
    high_frequency: float = 2 / 3
    high_frequency_mse: float = 0.05
    direction: Direction = "adapted||source"
    reduction: Reduction = "sum"
    anchors: int | None = None
    pairs: Literal["rank", "all"] = "rank"
    mse_weighting: Literal["uniform", "min_snr"] = "uniform"
    source_dropout: bool = False

    def __post_init__(self) -> None:
        for name in ("image", "high_frequency", "high_frequency_mse"):
            check_range(f"--model.pairwise.{name}", getattr(self, name), 0)
        if self.anchors is not None and self.anchors < 3:
            raise InputError(f"--model.pairwise.anchors is {self.anchors}: it takes 3 images to compare")

    @property
    def needs_source(self) -> bool:
        """Whether any weighted term looks at the source model."""
        return self.image > 0 or self.high_frequency > 0


class DDPMPA(DDPM):
    """Adapt a diffusion model to about ten images, holding on to the source's diversity by pairwise similarities.

    Args:
        pairwise: The losses that are added to those of DDPM.
        source: The frozen source model, where it is another than init_from; read like it.
        collapse_every_n_steps: How often to draw the same four noises by the adapted model and log how alike the
            images are (mean cosine), next to those of the source; 0 for never.
    """

    def __init__(
        self,
        pairwise: Pairwise = Pairwise(),
        source: str | None = None,
        collapse_every_n_steps: int = 100,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.pairwise, self.source = pairwise, FrozenSource[UNet](source or self.init_from, type(self).__name__)
        check_range("--model.collapse_every_n_steps", collapse_every_n_steps, 0)
        self.collapse_every_n_steps = collapse_every_n_steps
        self._source_alike: Tensor

    def configure_callbacks(self) -> list[Callback]:
        """The source has an entry of its own in checkpoints."""
        return [self.source]

    def on_fit_start(self) -> None:
        """Read the source model.

        Raises:
            InputError: It cannot be read, does not suit the network, or is not the one that a resumed run began with;
                or a micro-batch has too few images to compare.
        """
        super().on_fit_start()
        if not self.pairwise.needs_source:
            return
        batch: int | None = getattr(getattr(self.trainer, "datamodule", None), "batch_size", None)
        ranks = self.trainer.world_size if self.pairwise.pairs == "all" else 1
        least = self.pairwise.anchors or -(-3 // ranks)
        if batch is not None and batch < least:
            raise InputError(
                f"--data.batch_size is {batch}, but the pairwise losses compare at least {least} images of a "
                "micro-batch: make it larger"
            )
        source, path = self._read_source(self.source.file())
        self.source.hold(source, path, self, unet=plain_fields(source.config))
        if self.collapse_every_n_steps:
            self._source_alike = self._alike(source)
        source.train(self.pairwise.source_dropout)

    def _read_source(self, path: str) -> tuple[UNet, str]:
        """The network, and the file that it is in."""
        initial = self._initial_source(path)
        ours, theirs = self.unet.config, initial.config
        for field in ("image_size", "in_channels", "out_channels", "num_classes", "null_class"):
            if getattr(ours, field) != getattr(theirs, field):
                raise InputError(
                    f"{initial.path}: the source's unet.{field} is {getattr(theirs, field)}, the adapted model's "
                    f"{getattr(ours, field)}: make them equal"
                )
        if initial.diffusion not in (None, self.diffusion.config):
            raise InputError(
                f"{initial.path}: the source was trained with {initial.diffusion}, the adapted model is with "
                f"{self.diffusion.config}: leave out --model.diffusion"
            )
        network = initial.fill("unet", UNet(theirs))
        network.to(self.device)
        shard(network.requires_grad_(False), self)  # whole, it could be more than what each rank keeps of the other
        rounded = AUTOCAST.get(str(self.trainer.precision))
        if rounded is not None and not is_sharded(network):
            network.round_for_autocast(rounded)
        if self.compile_network:
            network.compile()
        return network, initial.path

    def _initial_source(self, path: str) -> Trained[UNetConfig]:
        """The source as it was read when the run began; else as init_from is read, if it is that file.

        Another file is asked first what it is: --model.unet need not be of it.
        """
        read_as = partial(read, path, UNET, self.init_weights)
        recorded: Mapping[str, Any] | None = self.source.recorded.get("unet")
        if recorded or path == self.init_from or not self.asked:
            return read_as(recorded or self.asked)
        try:
            return read_as({"dropout": self.asked["dropout"]})
        except InputError:
            return read_as(self.asked)

    def loss_terms(self, step: Denoised) -> dict[str, Tensor]:
        """The diffusion loss, and what DDPM-PA adds to it (eq. 9)."""
        terms, weights = super().loss_terms(step), self.pairwise
        estimate = self.diffusion.x0(step.output, step.x_t, step.t)  # not clamped: that would stop gradients
        if weights.high_frequency_mse:
            mse = high_frequency_mse(estimate, step.x0)
            if weights.mse_weighting == "min_snr":
                mse = min_snr_weight(self.diffusion.snr(step.t), 1.0) * mse
            terms["high_frequency_mse"] = weights.high_frequency_mse * mse
        if self.source.network is not None:
            n = len(estimate)
            chosen = (
                slice(None) if weights.anchors is None else torch.randperm(n, device=self.device)[: weights.anchors]
            )
            adapted, source = (
                self._of_all_ranks(x)
                for x in (estimate[chosen], self._source_estimate(self.source.network, step, chosen))
            )
            kl = partial(pairwise_similarity_loss, direction=weights.direction, reduction=weights.reduction)
            if weights.image:
                terms["pair_image"] = weights.image * kl(adapted, source)
            if weights.high_frequency:
                terms["pair_high_frequency"] = weights.high_frequency * kl(
                    high_frequency(adapted), high_frequency(source)
                )
        return terms

    @torch.no_grad()
    def _source_estimate(self, source: UNet, step: Denoised, chosen: Tensor | slice) -> Tensor:
        """The source's estimate of clean images from the same noised ones."""
        condition = {name: rows[chosen] for name, rows in (step.condition or {}).items()}
        return Denoiser(self.diffusion, source).x0(step.x_t[chosen], step.t[chosen], condition)

    def _of_all_ranks(self, x: Tensor) -> Tensor:
        """The images that are compared; gradients go back to the rank that each came from."""
        if self.pairwise.pairs == "rank" or self.trainer.world_size == 1:
            return x
        return torch.cat(all_gather(x.contiguous()))

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Log how alike samples from fixed noises are becoming: direct fine-tuning collapses (DDPM-PA, section 3)."""
        super().on_train_batch_end(outputs, batch, batch_idx)
        every = self.collapse_every_n_steps * self.trainer.accumulate_grad_batches
        if self.source.network is not None and every and (batch_idx + 1) % every == 0:
            self.log("collapse/adapted", self._alike(self.unet))
            self.log("collapse/source", self._source_alike)

    def _alike(self, network: torch.nn.Module) -> Tensor:
        """Mean cosine among the images that a network draws from four fixed noises."""
        with in_precision(self):
            images = self.sample_from(network, torch.arange(4), preview=True)
        images = F.normalize(images.flatten(1))
        return ((images @ images.T).sum() - 4) / 12
