"""The encoder half of the ADM U-Net (Dhariwal & Nichol, arXiv 2105.05233), shared with the classifier."""

from typing import cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from tenshot.models.blocks import Attention, Downsample, Resample, ResBlock, Stage, down2
from tenshot.models.unet_config import UNetConfig

__all__ = ["Encoder", "attention", "res_block", "run_stage"]


def res_block(config: UNetConfig, channels: int, out_channels: int, resample: Resample | None = None) -> ResBlock:
    """A residual block with the options of the network."""
    embed_channels = 4 * config.channels
    return ResBlock(
        channels, out_channels, embed_channels, config.dropout, config.scale_shift, resample, config.norm_groups
    )


def attention(config: UNetConfig, channels: int) -> Attention:
    """A self-attention layer with the options of the network."""
    heads = config.heads(channels)
    return Attention(channels, heads, config.attention_order, config.norm_groups, config.context_channels)


def run_stage(
    stage: nn.Module,
    x: Tensor,
    embedding: Tensor,
    recompute: bool,
    context: Tensor | None = None,
    context_kv: Tensor | None = None,
) -> Tensor:
    """Apply a stage, keeping nothing inside it for the backward pass where asked."""
    if recompute and torch.is_grad_enabled():
        return cast(Tensor, checkpoint(stage, x, embedding, context, context_kv, use_reentrant=False))
    return cast(Tensor, stage(x, embedding, context, context_kv))


class Encoder(nn.Module):
    """The contracting half of the U-Net with its middle block."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        width = config.widths[0]
        self.stem = nn.Conv2d(config.stem_channels, width, 3, padding=1)
        self.skip_channels = [width]
        self.stages = nn.ModuleList()
        for level, out in enumerate(config.widths):
            for _ in range(config.num_res_blocks):
                self.stages.append(
                    Stage(res_block(config, width, out), attention(config, out) if config.attends(level) else None)
                )
                width = out
                self.skip_channels.append(width)
            if level < len(config.widths) - 1:
                if config.resample == "resblock":
                    down: nn.Module = res_block(config, width, width, resample=down2)
                else:
                    down = Downsample(width, learned=config.resample == "conv")
                self.stages.append(Stage(down))
                self.skip_channels.append(width)
        self.middle = nn.ModuleList(
            [Stage(res_block(config, width, width), attention(config, width)), Stage(res_block(config, width, width))]
        )

    def forward(
        self,
        x: Tensor,
        embedding: Tensor,
        context: Tensor | None = None,
        context_kv: Tensor | None = None,
        stem_bias: Tensor | None = None,
    ) -> tuple[Tensor, list[Tensor]]:
        """x: (N, C, H, W), embedding: (N, E) -> the middle block's features, and those of every stage before it.

        context, context_kv: as in :class:`tenshot.models.blocks.Stage`
        stem_bias: (N, channels, H, W), added to the result of the first convolution
        """
        recompute = self.config.checkpoint_blocks and self.training
        x = self.stem(x)
        if stem_bias is not None:
            x = x + stem_bias.to(x.dtype)
        skips = [x]
        for stage in self.stages:
            x = run_stage(stage, x, embedding, recompute, context, context_kv)
            skips.append(x)
        for stage in self.middle:
            x = run_stage(stage, x, embedding, recompute, context, context_kv)
        return x, skips
