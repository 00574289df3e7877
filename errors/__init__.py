"""What the user can mend: raised on every floor, printed by the command line as one line."""

from collections.abc import Iterable
from difflib import SequenceMatcher, get_close_matches

__all__ = ["InputError", "did_you_mean"]


class InputError(ValueError):
    """Bad input. The message is one line that names the file or the option, what is wrong and the remedy."""


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
