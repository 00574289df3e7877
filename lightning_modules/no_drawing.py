"""Methods that draw no images."""

from typing import Any

from lightning.pytorch import LightningModule

from tenshot.errors import InputError

__all__ = ["DrawsNothing"]


class DrawsNothing(LightningModule):
    """A method that ``predict`` and ``test`` are refused for, before real images are looked at to compare with."""

    instead: str
    """What to do instead, in words."""

    def predict_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Refuse: it draws no images.

        Raises:
            InputError: Always.
        """
        raise InputError(f"{type(self).__name__} draws no images: {self.instead}")

    test_step = predict_step  # that measures images

    def setup(self, stage: str) -> None:
        """Refuse so before anything is looked at.

        Raises:
            InputError: It is to predict or to test.
        """
        if stage in ("predict", "test"):
            self.predict_step({}, 0)
