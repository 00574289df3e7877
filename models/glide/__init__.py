"""GLIDE (arXiv 2112.10741), and PITI (arXiv 2205.12952) which draws from images what GLIDE draws from text."""

from tenshot.models.glide.config import ConditionConfig, GlideConfig, PITIConfig, TextConfig
from tenshot.models.glide.encoders import ConditionEncoder, TextTransformer
from tenshot.models.glide.network import GlideUNet
from tenshot.models.glide.tokenizer import Tokenizer

__all__ = [
    "ConditionConfig",
    "ConditionEncoder",
    "GlideConfig",
    "GlideUNet",
    "PITIConfig",
    "TextConfig",
    "TextTransformer",
    "Tokenizer",
]
