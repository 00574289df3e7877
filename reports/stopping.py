"""Which step a run keeps as its best, and at which one its samples begin to be copies of its training images."""

from dataclasses import dataclass

from tenshot.callbacks.copying_watch import CopyingWatch, watched
from tenshot.models.pretrained import read_checkpoint
from tenshot.reports.run import Run

__all__ = ["Stopping", "stopping_of"]


@dataclass(frozen=True)
class Stopping:
    """What a run's folder tells of when to stop. What is None is not there.

    Args:
        best: Step of ``checkpoints/best.ckpt``.
        by: The value that it is the best of.
        copying: Step of the first evaluation whose samples are copies.
        shown_by: The values that show it, in words.
        watched: Whether some evaluation would have shown it.
    """

    best: int | None = None
    by: str | None = None
    copying: int | None = None
    shown_by: str | None = None
    watched: bool = False


def stopping_of(run: Run) -> Stopping:
    """Read it off the checkpoint and the evaluations.

    Raises:
        InputError: The checkpoint cannot be read.
    """
    best = by = None
    path = run.folder / "checkpoints" / "best.ckpt"
    if path.exists():
        content = read_checkpoint(path)
        best, by = (
            content.get("global_step"),
            content.get("callbacks", {}).get("EvaluateGenerator", {}).get("keep_best"),
        )
    watch = CopyingWatch()
    for evaluation in run.evaluations:
        if (found := watch.began(evaluation)) is not None:
            return Stopping(best, by, evaluation["step"], found, watched=True)
    return Stopping(best, by, watched=any(True for evaluation in run.evaluations for _ in watched(evaluation)))
