"""StyleGAN2: from scratch, or further from trained weights (arXiv 1912.04958; as TGAN, arXiv 1805.01677)."""

from functools import partial

import torch
from torch import Tensor

from tenshot.lightning_modules.adversarial import Terms
from tenshot.lightning_modules.gan import GAN
from tenshot.losses import nonsaturating_discriminator_loss, nonsaturating_generator_loss

__all__ = ["StyleGAN2"]


class StyleGAN2(GAN):
    """Train a StyleGAN2 from scratch, or go on from a trained one (init_from) with a few images."""

    def phases(self, step: int) -> tuple[bool, bool]:
        """Which of the regularisers' phases a step has: R1, path length."""
        rest = self.regularization
        return rest.r1 > 0 and step % rest.r1_every == 0, rest.path_length > 0 and step % rest.path_length_every == 0

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Terms:
        """One step of both players, and the regularisers' when it is time."""
        step, images = self.trainer.global_step, batch["image"]
        parts = images.split(self.micro_batch or len(images))
        with_r1, with_path_length = self.phases(step)
        terms = self.optimise("discriminator", [partial(self.discriminator_terms, real) for real in parts])
        self.adjust_augmentation(step)
        if with_r1:
            terms |= self.optimise("discriminator", [partial(self.r1_terms, real, self.discriminate) for real in parts])
        terms |= self.optimise("generator", [partial(self.generator_terms, len(real)) for real in parts], counted=True)
        if with_path_length:
            terms |= self.optimise("generator", [partial(self.path_length_terms, len(real)) for real in parts])
        self.log_dict({f"train/{name}": value for name, value in terms.items()})
        return {"loss": torch.stack(list(terms.values())).sum()} | terms

    def discriminator_terms(self, real: Tensor) -> Terms:
        """Tell real images (N, 3, H, W) from as many drawn ones."""
        with torch.no_grad():
            fake = self.generator.synthesis(self.styles(len(real)))
        real_logits, fake_logits = self.discriminate(self.augmentation(real), self.augmentation(fake))
        self.observe(real_logits)
        return {"discriminator": nonsaturating_discriminator_loss(real_logits, fake_logits)}

    def generator_terms(self, count: int) -> Terms:
        """Draw images that are taken for real ones."""
        [logits] = self.discriminate(self.augmentation(self.generator.synthesis(self.styles(count))))
        return {"generator": nonsaturating_generator_loss(logits)}
