"""What the user can mend: raised on every floor, printed by the command line as one line."""

import math
import sys
from collections.abc import Iterable
from difflib import SequenceMatcher, get_close_matches

__all__ = ["InputError", "SaidError", "check_range", "did_you_mean", "say"]


class InputError(ValueError):
    """Bad input. The message is one line that names the file or the option, what is wrong and the remedy."""


class SaidError(InputError):
    """One that was printed already, by the first of several processes."""


def say(mistake: object) -> None:
    """Print what is wrong, as the command line does."""
    print(f"tenshot: error: {mistake}", file=sys.stderr, flush=True)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`` (did you mean 'DDPM'?)`` for the nearest of ``known``, or an empty string when none is near."""
    lowered = {candidate.lower(): candidate for candidate in known}
    near = get_close_matches(name.lower(), lowered, n=3)
    if not near:
        return ""

    def likeness(candidate: str) -> float:
        # swapped letters are likelier than missing ones, which difflib sees the other way round
        return SequenceMatcher(None, name.lower(), candidate).ratio() - 0.05 * abs(len(candidate) - len(name))

    return f" (did you mean {lowered[max(near, key=likeness)]!r}?)"


def check_range(
    option: str,
    value: float,
    low: float = -math.inf,
    high: float = math.inf,
    *,
    above: bool = False,
    below: bool = False,
) -> None:
    """Refuse a number that an option cannot be. What is not finite is never taken.

    Args:
        option: Its name, as the message gives it.
        value: What was given.
        low: The least that it may be.
        high: The most that it may be.
        above: low itself is refused too.
        below: high itself is refused too.

    Raises:
        InputError: The value is outside, infinite or NaN.
    """
    inside = (value > low if above else value >= low) and (value < high if below else value <= high)
    if inside and math.isfinite(value):
        return
    if math.isinf(low) and math.isinf(high):
        wanted = "a finite number"
    elif math.isinf(high):
        wanted = f"more than {low}" if above else f"at least {low}"
    elif isinstance(value, int) and not (above or below):
        wanted = f"{low} to {high}"
    else:
        wanted = f"a number in {'(' if above else '['}{low}, {high}{')' if below else ']'}"
    raise InputError(f"{option} is {value}: choose {wanted}")
