"""A StyleGAN2 whose discriminator judges whole pictures at some steps and patches at the others, as CDC's does."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from tenshot.lightning_modules.adversarial import Player
from tenshot.lightning_modules.stylegan2 import StyleGAN2
from tenshot.models import PatchDiscriminator

__all__ = ["PatchStyleGAN2"]


class PatchStyleGAN2(StyleGAN2):
    """Judge patches by heads on layers of the discriminator (CDC, section 3.2)."""

    heads: PatchDiscriminator
    taps: int
    """How many layers patches are judged at, one drawn for each call: 1 to 4."""
    tap_size: int | None
    """Side of the first two of these layers' maps; none: an eighth of the image's."""

    def build(self) -> None:
        """Make the networks, once.

        Raises:
            InputError: The pictures are too small for patches.
        """
        super().build()
        assert self.config is not None
        self.heads = PatchDiscriminator(self.config, self.tap_size)
        self.heads.heads[self.taps :].requires_grad_(False)  # of taps that are never judged at

    def players(self) -> Mapping[Player, Sequence[nn.Module]]:
        """The modules that each optimiser trains; the heads have the discriminator's settings, as published."""
        return {"generator": [self.generator], "discriminator": [self.discriminator, self.heads]}

    @abstractmethod
    def patches_at(self, step: int) -> bool:
        """Whether that step does."""

    @property
    def judges_patches(self) -> bool:
        """Whether this step does."""
        return self.patches_at(self.step)

    def turns(self, step: int) -> tuple[bool, ...]:
        """Also whether patches are judged."""
        return *super().turns(step), self.patches_at(step)

    def judge(self, images: Tensor) -> Tensor:
        """Logits of whole pictures (N,), or of patches (N, 1, h, w)."""
        if not self.judges_patches:
            return super().judge(images)
        tap = self.choices.randrange(self.taps)
        logits: Tensor = self.heads(self.discriminator.tap(images, tap, self.tap_size), tap)
        return logits

    def judge_both(self, real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
        """Patches each by a draw of their own."""
        return (self.judge(real), self.judge(fake)) if self.judges_patches else super().judge_both(real, fake)
