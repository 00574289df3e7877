"""The ADM U-Net (Dhariwal & Nichol, arXiv 2105.05233), and with tokens in its attention (GLIDE, arXiv 2112.10741)."""

from collections.abc import Iterator
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tenshot.errors import InputError
from tenshot.models.blocks import Attention, GroupNorm, Stage, TimeEmbedding, Upsample, up2, zeroed
from tenshot.models.fsdp import ShardedByStage
from tenshot.models.norm_act_conv import norm_act
from tenshot.models.unet_config import UNetConfig
from tenshot.models.unet_encoder import Encoder, attention, res_block, run_stage

__all__ = ["UNet"]


class UNet(ShardedByStage):
    """Predict the noise (and, with twice the channels, the variance) in a noisy image.

    A fresh network outputs exactly 0.
    """

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        self.time_embedding = TimeEmbedding(config.channels)
        classes = (config.num_classes or 0) + config.null_class
        self.class_embedding = nn.Embedding(classes, 4 * config.channels) if classes else None
        self.encoder = Encoder(config)
        skip_channels = list(self.encoder.skip_channels)
        width = skip_channels[-1]
        self.decoder = nn.ModuleList()
        for level, out in reversed(list(enumerate(config.widths))):
            for index in range(config.num_res_blocks + 1):
                block = res_block(config, width + skip_channels.pop(), out)
                up: nn.Module | None = None
                if level > 0 and index == config.num_res_blocks:
                    if config.resample == "resblock":
                        up = res_block(config, out, out, resample=up2)
                    else:
                        up = Upsample(out, learned=config.resample == "conv")
                self.decoder.append(Stage(block, attention(config, out) if config.attends(level) else None, up))
                width = out
        self.norm = GroupNorm(width, config.norm_groups)
        self.conv = zeroed(nn.Conv2d(width, config.out_channels, 3, padding=1))
        self.s_embedding = TimeEmbedding(config.channels) if config.low_res_timestep else None
        if self.s_embedding is not None:
            zeroed(self.s_embedding.fc2)  # at the start the network is the one that is not told s, to the last bit
        context = config.context_channels
        self.context_embedding = nn.Linear(context, 4 * config.channels) if context else None
        start = 0
        for layer in self._attentions():
            end = start + 2 * layer.qkv.in_channels
            layer.kv_channels, start = slice(start, end), end
        self.to(memory_format=torch.channels_last)

    def forward(
        self,
        x: Tensor,
        t: Tensor,
        label: Tensor | None = None,
        low_res: Tensor | None = None,
        s: Tensor | None = None,
        context: Tensor | None = None,
        pooled: Tensor | None = None,
        context_kv: Tensor | None = None,
        stem_bias: Tensor | None = None,
    ) -> Tensor:
        """One evaluation.

        Args:
            x: (N, C, H, W) noisy images; H and W multiples of 2 ** (levels - 1).
            t: (N,) timesteps of the process the network was trained with, integral or fractional.
            label: (N,) int64 classes, for a class-conditional network and only then; num_classes is the null class.
            low_res: (N, C', H', W') images in [-1, 1], enlarged here if need be, for a super-resolution network alone.
            s: (N,) steps of noise in low_res, 0 for none, for a network with low_res_timestep and only then.
            context: (N, context_channels, L) tokens that attention sees beside the pixels, for a network with
                context_channels and only then.
            pooled: (N, context_channels), one vector for all of them, which is added to the time embedding.
            context_kv: In place of context, what :meth:`project_context` makes of it.
            stem_bias: (N, channels, H, W), added to the result of the first convolution.

        Returns:
            (N, out_channels, H, W) in the dtype of x.

        Raises:
            InputError: A condition is missing or not wanted, or the size cannot be halved.
        """
        config = self.config
        halving = 2 ** (len(config.widths) - 1)
        if x.shape[-1] % halving or x.shape[-2] % halving:
            raise InputError(f"images of {tuple(x.shape[-2:])} cannot pass a U-Net that needs multiples of {halving}")
        tokens = config.context_channels > 0
        wanted = (config.num_classes is not None, config.low_res_channels > 0, config.low_res_timestep, tokens, tokens)
        given = tuple(each is not None for each in (label, low_res, s, context if context_kv is None else 0, pooled))
        if context is not None and context_kv is not None:
            raise InputError("give a U-Net context or context_kv, which replaces it, not context and context_kv")
        if wanted != given:
            pairs = zip(("label", "low_res", "s", "context", "pooled"), given, strict=True)
            told = ", ".join(f"{'with' if there else 'without'} {name}" for name, there in pairs)
            raise InputError(
                f"this U-Net has num_classes={config.num_classes}, low_res_channels={config.low_res_channels}, "
                f"low_res_timestep={config.low_res_timestep} and context_channels={config.context_channels}, but was "
                f"called {told}"
            )
        if low_res is not None:
            if low_res.shape[-2:] != x.shape[-2:]:
                low_res = F.interpolate(low_res, x.shape[-2:], mode="bilinear", align_corners=False)
            x = torch.cat([x, low_res.to(x.dtype)], dim=1)
        embedding = self.embed(t, label, s, pooled)
        x = x.contiguous(memory_format=torch.channels_last)
        h, skips = self.encoder(x, embedding, context, context_kv, stem_bias)
        recompute = config.checkpoint_blocks and self.training
        for stage in self.decoder:
            h = run_stage(stage, torch.cat([h, skips.pop()], dim=1), embedding, recompute, context, context_kv)
        with torch.autocast(x.device.type, enabled=False):  # the prediction itself in full precision
            h = norm_act(h.to(x.dtype), self.norm)
            return cast(Tensor, self.conv(h))

    def round_for_autocast(self, dtype: torch.dtype) -> None:
        """Round for good what autocast rounds at each call: half the memory, and forward passes are the same bits.

        Only for a network that is not trained, and runs under autocast to that dtype alone. Norms, embeddings and the
        last convolution stay as they are: they are computed outside of autocast.
        """
        for part in (*self.encoder.modules(), *self.decoder.modules()):
            if isinstance(part, nn.Conv2d | nn.Conv1d):
                part.to(dtype)

    def project_context(self, context: Tensor) -> Tensor:
        """The keys and values of all attention layers, which do not depend on x nor on t: once for all evaluations.

        context: (N, context_channels, L) -> (N, K, L), K being twice the channels of all these layers together
        """
        return torch.cat([layer.context_kv(context) for layer in self._attentions() if layer.context_kv], dim=1)

    def _attentions(self) -> Iterator[Attention]:
        return (part for part in self.modules() if isinstance(part, Attention))

    def embed(self, t: Tensor, label: Tensor | None, s: Tensor | None = None, pooled: Tensor | None = None) -> Tensor:
        """The embedding that every residual block projects, after its SiLU: (N, 4 * channels) float32."""
        with torch.autocast(t.device.type, enabled=False):
            embedding = self.time_embedding(t)
            if self.class_embedding is not None:
                embedding = embedding + self.class_embedding(label)
            if self.s_embedding is not None:
                embedding = embedding + self.s_embedding(s)
            if self.context_embedding is not None and pooled is not None:
                embedding = embedding + self.context_embedding(pooled.to(embedding.dtype))
            return F.silu(embedding)
