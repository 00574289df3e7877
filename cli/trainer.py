"""A Trainer with the commands that Lightning's does not know."""

from lightning.pytorch import LightningDataModule, LightningModule, Trainer

__all__ = ["CommandTrainer"]


class CommandTrainer(Trainer):
    """A Trainer that can also search and paint."""

    def search(
        self,
        model: LightningModule | None = None,
        datamodule: LightningDataModule | None = None,
        ckpt_path: str | None = None,
    ) -> None:
        """Find the best options of drawing.

        Args:
            model: What draws.
            datamodule: Of no samples: the callback Search draws them.
            ckpt_path: Checkpoint of its weights.
        """
        self.test(model, datamodule=datamodule, ckpt_path=ckpt_path, verbose=False)

    def paint(
        self,
        model: LightningModule | None = None,
        datamodule: LightningDataModule | None = None,
        ckpt_path: str | None = None,
    ) -> None:
        """Serve a page to draw masks or sketches on and see samples arrive.

        Args:
            model: What draws.
            datamodule: Of no samples: the callback Paint draws them.
            ckpt_path: Checkpoint of its weights.
        """
        self.predict(model, datamodule=datamodule, ckpt_path=ckpt_path, return_predictions=False)
