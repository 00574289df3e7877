"""Losses: functions of tensors that return a scalar or one value per sample."""

from tenshot.losses.high_frequency import high_frequency, high_frequency_mse
from tenshot.losses.hybrid import hybrid_loss, vlb_loss
from tenshot.losses.pairwise import pairwise_similarity_loss

__all__ = ["high_frequency", "high_frequency_mse", "hybrid_loss", "pairwise_similarity_loss", "vlb_loss"]
