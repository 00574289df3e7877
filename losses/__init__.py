"""Losses: functions of tensors that return a scalar or one value per sample."""

from tenshot.losses.hybrid import hybrid_loss, vlb_loss

__all__ = ["hybrid_loss", "vlb_loss"]
