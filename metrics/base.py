"""What all metrics of images share: states that add up exactly over ranks, and a report."""

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torchmetrics import Metric
from torchmetrics.utilities.distributed import gather_all_tensors

from tenshot.distributed.gathering import gather_rows, reduce_sum

__all__ = ["TRUE_CONDITIONS", "ImageMetric", "Need", "Real", "Report"]

TRUE_CONDITIONS = "_true_conditions"
"""What is added to the names of metrics and values that are of images enlarged from true ones, not generated ones."""

Need = Literal[
    "reference", "shots", "latents", "condition", "truth", "low_res",
    "mask", "sketch", "depth", "normals", "pair", "repeats", "predictor", "edge_detector",
]  # fmt: skip
"""Other images of the domain; the few training images; latents between which the method can go; what each sample was
conditioned on; the true image that belongs to each sample; the small image that each was enlarged from; the condition
image that each was drawn from, by what it shows; the pair that it is of; several samples of each; what finds such a
condition in images."""

Real = bool | Literal["shots", "reference"]
"""Whether images are real, not generated; and which of the real ones."""


@dataclass(frozen=True)
class Report:
    """The result of one metric, on the images of all ranks.

    Args:
        values: What a table shows, the headline first; NaN where a number is undefined.
        settings: What must be equal for two results to be compared: numbers of images, feature network, hash of its
            weights, resizing, seeds. Plain values that JSON can hold.
        details: Everything else, for the JSON file. ``why`` says what a NaN is for.
    """

    values: dict[str, float]
    settings: dict[str, Any] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)


class ImageMetric(Metric):
    """A metric of a set of images, or of a generated and a real one.

    A subclass declares list states of rows (``add_rows``) and states that are sums (``add_sum``), fills them in
    ``update`` and turns them into a report in ``evaluate``. What is of real images has a name that begins with
    ``real``. States stay in host memory, whatever the metric's device is, and are never saved. Ranks may hold any
    number of rows, or nothing; they must all call ``compute``.
    """

    full_state_update = True
    is_differentiable = False

    needs: ClassVar[tuple[Need, ...]] = ()
    """What it needs besides the generated images (N, 3, H, W).

    ``reference`` and ``shots`` come by calls of their own: ``update(images, real=True)`` to a metric that needs one of
    them, ``real="shots"`` and ``real="reference"`` to one that needs both. The others come with the generated ones:
    ``condition`` as ``update(images, condition=...)``, tensors by name, each of first dimension N; ``truth`` as
    ``update(images, real=...)``, uint8 (N, 3, H, W); ``low_res`` as ``update(images, low_res=(given, made))``, float in
    [-1, 1] (N, 3, h, w): what a sample was enlarged from, and what the sample looks like when it is made small again;
    ``mask``, ``sketch``, ``depth`` and ``normals`` as ``update(images, condition_image=...)``, that part of what a
    sample was drawn from, uint8 (N, C, S, S), and likewise with ``real=True`` the true images of the same pairs;
    ``pair`` as ``update(images, pair=...)``, their numbers, int64 (N,). ``repeats``, ``predictor`` and
    ``edge_detector`` come with no call: samples of the same pair, and what a metric is built with.
    """

    more_is_better: ClassVar[tuple[bool | None, ...]]
    """For each value of a report, in their order; None where neither more nor less is better. A new value comes last,
    so that this tells of the results of older versions too."""

    headlines: ClassVar[int] = 1
    """How many of the report's values, from the first on, ``compute`` returns."""

    copying_rises: ClassVar[bool] = False
    """Whether ``copying_limit`` tells only where the headline was below it before, earlier in the run."""

    _report: Report | None = None

    def __init__(self) -> None:
        super().__init__(compute_with_cache=False)  # a rank without news would answer from it, the others wait for it

    def prepare(self) -> None:
        """Load what the first update would load, so that a missing file shows before any image is made.

        Raises:
            InputError: Weights are missing or cannot be read.
        """

    def release(self) -> None:
        """Give back the accelerator's memory; what was counted stays."""

    @property
    def compares(self) -> bool:
        """Whether it takes real images besides the generated ones: ``update(images, real=True)``."""
        return "reference" in self.needs or "shots" in self.needs

    @property
    def compares_with_both(self) -> bool:
        """Whether it must be told which real images are shots and which are reference."""
        return "reference" in self.needs and "shots" in self.needs

    @abstractmethod
    def names(self) -> tuple[str, ...]:
        """What the values of every report are called, in their order.

        Honest names depend on the weights: those that :meth:`prepare` loads.
        """

    def better(self) -> dict[str, bool | None]:
        """Name of each value -> whether more is better; None where neither is."""
        return dict(zip(self.names(), self.more_is_better, strict=True))

    @classmethod
    def copying_limit(cls, settings: Mapping[str, Any]) -> float | None:
        """The headline above which images are copies of the shots: new images of the domain hardly exceed it.

        Args:
            settings: Of a report, which say how many images there were.

        Returns:
            It; None where the headline does not tell copies, or not with so few images.
        """
        return None

    @abstractmethod
    def evaluate(self) -> Report:
        """The report on the states, which by now are those of all ranks."""

    def compute(self) -> Any:
        """The headline, a float64 scalar, or a tuple of them."""
        self._report = self.evaluate()
        values = [torch.tensor(value, dtype=torch.float64) for value in self._report.values.values()]
        return values[0] if self.headlines == 1 else tuple(values[: self.headlines])

    def report(self) -> Report:
        """All there is to say. To be called on all ranks, like ``compute``."""
        self.compute()
        assert self._report is not None
        return self._report

    def reset_generated(self) -> None:
        """Forget the generated images, and keep the real ones for the next generator."""
        real = {
            name: list(value) if isinstance(value := getattr(self, name), list) else value
            for name in self._defaults
            if name.startswith("real")
        }
        self.reset()
        for name, value in real.items():
            setattr(self, name, value)

    def add_rows(self, name: str) -> None:
        """Declare a state that collects rows: a list of tensors (N, ...)."""
        self.add_state(name, [], dist_reduce_fx="cat")

    def add_sum(self, name: str, start: Tensor) -> None:
        """Declare a state that is a sum; where its size is not known yet, let it start as an empty tensor."""
        self.add_state(name, start, dist_reduce_fx="sum")

    def append(self, name: str, rows: Tensor) -> None:
        """Add rows (N, ...) to a state: a copy in host memory."""
        getattr(self, name).append(rows.detach().to("cpu", copy=True))

    def rows(self, name: str) -> Tensor | None:
        """The rows of a state as one tensor, none if there are none."""
        held: list[Tensor] = getattr(self, name)
        if len(held) > 1:
            held[:] = [torch.cat(held)]
        return held[0] if held else None

    def _sync_dist(self, dist_sync_fn: Callable = gather_all_tensors, process_group: Any | None = None) -> None:
        group = process_group or self.process_group
        for name in self._defaults:
            value = getattr(self, name)
            if isinstance(value, Tensor):
                setattr(self, name, reduce_sum(value, group))
            else:
                together = gather_rows(self.rows(name), group)
                setattr(self, name, [] if together is None else [together])

    def _apply(self, fn: Callable, exclude_state: Any = ()) -> nn.Module:
        return super()._apply(fn, exclude_state=tuple(self._defaults))
