"""What a metric has to say: the numbers, how they were made, and why there is none."""

from dataclasses import dataclass, field
from typing import Any

__all__ = ["Report"]


@dataclass(frozen=True)
class Report:
    """The result of one metric, on the pictures of all ranks.

    Args:
        values: What a table shows, the headline first; NaN where a number is undefined.
        settings: What must be equal for two results to be compared: numbers of pictures, feature network, hash of its
            weights, resizing, seeds. Plain values that JSON can hold.
        details: Everything else, for the JSON file. ``why`` says what a NaN is for.
    """

    values: dict[str, float]
    settings: dict[str, Any] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)
