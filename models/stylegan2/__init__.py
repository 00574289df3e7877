"""StyleGAN2 in plain PyTorch (arXiv 1912.04958)."""

from tenshot.models.stylegan2.config import StyleGAN2Config

__all__ = ["StyleGAN2Config"]
