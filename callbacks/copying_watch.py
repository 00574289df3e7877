"""The step of an adaptation at which copying begins."""

from collections.abc import Iterator, Mapping
from typing import Any

from tenshot.metrics import METRICS

__all__ = ["CopyingWatch", "watched"]


def watched(result: Mapping[str, Any]) -> Iterator[tuple[str, float, float, bool]]:
    """What of an evaluation would show copies: name, value, above which value it does, and whether it must have risen.

    Args:
        result: The evaluation, as its JSON file has it (docs/evaluation.md).
    """
    for metric, part in result["metrics"].items():
        limit = METRICS[metric].copying_limit(part["settings"]) if metric in METRICS else None
        name, value = next(iter(part["values"].items()))
        if value is not None and limit is not None:
            yield name, value, limit, METRICS[metric].copying_rises


class CopyingWatch:
    """Find the first evaluation of a run whose samples are copies of the shots; later ones say nothing more."""

    def __init__(self) -> None:
        self._since: int | None = None
        self._below: list[str] = []  # values that were not above their limits at some evaluation

    def began(self, result: Mapping[str, Any]) -> str | None:
        """What shows copies, in words, for the evaluation at which copying begins; None for others.

        Args:
            result: The next evaluation of the run.
        """
        if self._since is not None:
            return None
        shown = []
        for name, value, limit, must_rise in watched(result):
            if value <= limit:
                self._below.append(name)
            elif name in self._below or not must_rise:
                shown.append(f"{name} is {value:.3g}, new images of the domain hardly exceed {limit:.3g}")
        self._below = sorted(set(self._below))
        if shown:
            self._since = result["step"]
        return "; ".join(shown) or None

    def state_dict(self) -> dict[str, Any]:
        """The step at which it began, and what could rise so far."""
        return {"copying_since": self._since, "copying_below": self._below}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from it."""
        self._since, self._below = state.get("copying_since"), list(state.get("copying_below", []))
