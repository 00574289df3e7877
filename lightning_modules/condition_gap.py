"""Whether a diffusion model looks at what it is told: its loss with the conditions of other images."""

from collections.abc import Sequence

from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor, nn
from torchmetrics import MeanMetric

from tenshot.diffusion import Condition

__all__ = ["ConditionGap", "of_others"]

LEARNT_BY = 500
"""From that optimiser step on a model is warned of that looks at nothing."""


def of_others(condition: Condition, names: Sequence[str]) -> dict[str, Tensor]:
    """A condition in which each image of a batch has entries of the image before it.

    A lone image has its own, with those that are images upside down.

    Args:
        condition: Each of N rows.
        names: Which entries; those that are not there are passed over.
    """
    others = dict(condition or {})
    for name in [name for name in names if name in others]:
        rows = others[name]
        others[name] = rows.roll(1, 0) if len(rows) > 1 or rows.dim() < 3 else rows.flip(-2)
    return others


class ConditionGap(nn.Module):
    """Mean of how much larger the validation loss is with a wrong condition; says once where it is not.

    Args:
        what: The condition, in words.
        least: Part of the loss; a smaller gap is warned of.
        page: Of the documentation that says what to look at.
    """

    def __init__(self, what: str, least: float, page: str) -> None:
        super().__init__()
        self.mean = MeanMetric(nan_strategy="disable")  # waits for no device
        self.what, self.least, self.page = what, least, page
        self.step = 0
        """Of the weights, where no trainer counts their steps."""
        self.warned = False

    def update(self, loss: Tensor, with_others: Tensor) -> None:
        """The losses of some images (N,), with their own conditions and with those of others."""
        self.mean.update(with_others - loss)

    def warn(self, loss: Tensor, step: int) -> None:
        """Warn, once, where the condition makes no difference after a time in which it could have been learnt to.

        Args:
            loss: Mean validation loss ().
            step: The trainer's optimiser step.
        """
        gap, step = self.mean.compute(), max(step, self.step)
        if step >= LEARNT_BY and not self.warned and gap < self.least * loss:
            self.warned = True
            rank_zero_warn(
                f"step {step}: condition ignored: with the {self.what} of another the validation loss {loss:.4f} is "
                f"{gap:+.4f}, less than {100 * self.least:g}% more ({self.page} says what to look at)"
            )
