"""How true images become low-resolution ones as poor as generated ones, for an upsampler to learn from."""

from tenshot.diffusion.degradation.bsr import Degradation

__all__ = ["Degradation"]
