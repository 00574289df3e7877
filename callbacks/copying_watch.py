"""The step of an adaptation at which copying begins."""

from collections.abc import Iterator, Mapping
from typing import Any

from tenshot.metrics import METRICS

__all__ = ["CopyingWatch", "copying_in", "watched"]


def copying_in(result: Mapping[str, Any]) -> str | None:
    """What shows copies among the samples of an evaluation, in words; None where nothing does.

    Args:
        result: The evaluation, as its JSON file has it (docs/evaluation.md).
    """
    return (
        "; ".join(
            f"{name} is {value:.3g}, new images of the domain hardly exceed {limit:.3g}"
            for name, value, limit in watched(result)
            if value > limit
        )
        or None
    )


def watched(result: Mapping[str, Any]) -> Iterator[tuple[str, float, float]]:
    """What of an evaluation would show copies: name, value, and above which value it does."""
    for metric, part in result["metrics"].items():
        limit = METRICS[metric].copying_limit(part["settings"]) if metric in METRICS else None
        name, value = next(iter(part["values"].items()))
        if value is not None and limit is not None:
            yield name, value, limit


class CopyingWatch:
    """Find the first evaluation of a run whose samples are copies of the shots; later ones say nothing more."""

    def __init__(self) -> None:
        self._since: int | None = None

    def began(self, result: Mapping[str, Any]) -> str | None:
        """A line for the evaluation at which copying begins, none for others."""
        found = copying_in(result) if self._since is None else None
        if found is None:
            return None
        self._since = result["step"]
        return f"step {self._since}: copying of the training images begins: {found}"

    def state_dict(self) -> dict[str, Any]:
        """The step at which it began."""
        return {"copying_since": self._since}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from it."""
        self._since = state.get("copying_since")
