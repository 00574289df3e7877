"""GLIDE's and PITI's network: a U-Net with a context, beside what makes that of a text or of a condition image."""

from collections.abc import Mapping
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tenshot.errors import InputError
from tenshot.models.blocks import zeroed
from tenshot.models.glide.config import GlideConfig, PITIConfig
from tenshot.models.glide.encoders import ConditionEncoder, TextTransformer, as_input
from tenshot.models.unet import UNet

__all__ = ["GlideUNet"]


class GlideUNet(UNet):
    """A U-Net that draws from a text (GLIDE, arXiv 2112.10741) or from a condition image (PITI, arXiv 2205.12952).

    A fresh network outputs exactly 0.

    Args:
        config: Which of the two it is.
    """

    config: GlideConfig | PITIConfig

    def __init__(self, config: GlideConfig | PITIConfig) -> None:
        super().__init__(config)
        self.context_encoder = (
            TextTransformer(config.text) if isinstance(config, GlideConfig) else ConditionEncoder(config.condition)
        )
        self.context_encoder.to(memory_format=torch.channels_last)
        self.condition_stem: nn.Module | None = None
        if isinstance(config, PITIConfig) and config.condition_input:
            self.condition_stem = zeroed(nn.Conv2d(config.condition_channels, config.widths[0], 3, padding=1))

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
        condition_image: Tensor | None = None,
        tokens: Tensor | None = None,
        tokens_mask: Tensor | None = None,
        inpaint_image: Tensor | None = None,
        inpaint_mask: Tensor | None = None,
    ) -> Tensor:
        """One evaluation; for the first nine and the result see :class:`UNet`.

        Args:
            x: (N, C, H, W) noisy images.
            t: (N,) timesteps.
            label: Classes.
            low_res: (N, C, h, w) in [-1, 1], for an upsampler.
            s: Steps of noise in low_res.
            context: In place of the condition image or the text, what :class:`ConditionEncoder` or
                :class:`TextTransformer` makes of it.
            pooled: Its vector.
            context_kv: In place of context, its keys and values, see :meth:`prepare`.
            stem_bias: Beside these, what the condition image adds after the first convolution, if anything.
            condition_image: (N, C', S, S), uint8 or float in [-1, 1].
            tokens: (N, L) int64.
            tokens_mask: (N, L) bool, True where tokens are no padding.
            inpaint_image: (N, C, H, W) in [-1, 1], for a network that inpaints; where it is not known it may be
                anything. None where nothing is known.
            inpaint_mask: (N, 1, H, W), 1 where the image is known and 0 elsewhere.

        Raises:
            InputError: A condition is missing or not wanted, or has another size.
        """
        given = {"condition_image": condition_image, "tokens": tokens, "tokens_mask": tokens_mask}
        told = {name: value for name, value in given.items() if value is not None}
        if told and not (context is context_kv is pooled is None):
            raise InputError(f"this U-Net was given {', '.join(told)}, and what it makes of such beside it")
        if told or pooled is None:
            context, pooled = self._encode(told)
            stem_bias = self._stem_bias(told)
        if getattr(self.config, "inpaint", False):
            image = torch.zeros_like(x) if inpaint_image is None else inpaint_image
            mask = torch.zeros_like(x[:, :1]) if inpaint_mask is None else inpaint_mask
            x = torch.cat([x, image * mask, mask], dim=1)
        elif inpaint_image is not None or inpaint_mask is not None:
            raise InputError("this U-Net does not inpaint, but was given inpaint_image or inpaint_mask")
        return super().forward(x, t, label, low_res, s, context, pooled, context_kv, stem_bias)

    def _stem_bias(self, told: Mapping[str, Tensor]) -> Tensor | None:
        if self.condition_stem is None:
            return None
        image = as_input(told["condition_image"], cast(ConditionEncoder, self.context_encoder).class_token.dtype)
        if image.shape[-1] != self.config.image_size:
            image = F.interpolate(image, 2 * [self.config.image_size], mode="bilinear", antialias=True)
        return cast(Tensor, self.condition_stem(image.contiguous(memory_format=torch.channels_last)))

    def _encode(self, told: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        wanted = self.context_encoder.names
        if told.keys() != set(wanted):
            given = ", ".join(told) or "nothing of the kind"
            raise InputError(f"this U-Net draws from {' and '.join(wanted)}, but was given {given}")
        context, pooled = self.context_encoder(**told)
        return context, pooled

    def prepare(self, condition: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The condition with what does not depend on x nor on t computed, so that it is computed once an image.

        Args:
            condition: Arguments of :meth:`forward`. What is prepared already is returned as it is.

        Returns:
            ``context_kv`` (N, K, L) and ``pooled`` (N, context_channels) in place of text or condition image; with
            condition_input also ``stem_bias`` (N, channels, H, W).

        Raises:
            InputError: As :meth:`forward`.
        """
        if "context_kv" in condition:
            return dict(condition)
        mine = {"condition_image", "tokens", "tokens_mask"}
        told = {name: value for name, value in condition.items() if name in mine}
        context, pooled = self._encode(told)
        rest = {name: value for name, value in condition.items() if name not in mine}
        prepared = rest | {"context_kv": self.project_context(context), "pooled": pooled}
        stem_bias = self._stem_bias(told)
        return prepared if stem_bias is None else prepared | {"stem_bias": stem_bias}

    def null_condition(self, count: int) -> dict[str, Tensor]:
        """What stands for no condition, for ``count`` images: a white image, or a text of padding alone."""
        return self.context_encoder.null(count)
