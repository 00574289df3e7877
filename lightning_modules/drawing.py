"""How all methods draw, wherever they are asked to: in training, in test or in predict."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from lightning.pytorch import LightningModule
from torch import nn
from torch.nn.utils import parametrize

__all__ = ["evaluating", "in_precision"]


def in_precision(module: LightningModule) -> AbstractContextManager[None]:
    """Inside the block images are drawn as in ``predict`` and ``test``: in the precision of the trainer.

    Lightning enters it around their steps; whatever draws in the midst of training has to do so itself. A seed then
    gives the same image everywhere.
    """
    trainer = module._trainer
    return nullcontext() if trainer is None else trainer.precision_plugin.predict_step_context()


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Put a network in eval mode inside the block, and add low-rank changes to its weights once, not at each call.

    The weights must not be changed inside.
    """
    training = network.training
    network.eval()
    try:
        with parametrize.cached():
            yield
    finally:
        network.train(training)
