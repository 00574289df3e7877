"""Put a state dict into a network: all of it, or a line that says what differs."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TypeVar

from torch import Tensor, nn

from tenshot.errors import InputError

__all__ = ["broken_named", "fill", "list_keys", "refuse_misfit"]

N = TypeVar("N", bound=nn.Module)


def fill(network: N, state: Mapping[str, Tensor], where: str) -> N:
    """Load weights, all of them and nothing else.

    Raises:
        InputError: See :func:`refuse_misfit`; or some are NaN or infinite.
    """
    refuse_misfit(network, state, where)
    bad = sorted(name for name, value in state.items() if not (value.is_meta or bool(value.isfinite().all())))
    if bad:
        raise InputError(
            f"{where}: {list_keys('NaN or infinite', bad)}: the training that wrote it failed; take another"
        )
    network.load_state_dict(state)
    return network


def refuse_misfit(network: nn.Module, state: Mapping[str, Tensor], where: str) -> None:
    """Compare weights with a network, which may be on the meta device.

    Raises:
        InputError: Lists missing and unknown keys and shapes that differ.
    """
    own = network.state_dict()
    missing, unknown = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
    shared = own.keys() & state.keys()
    differ = sorted(
        f"{k} {tuple(state[k].shape)} for {tuple(own[k].shape)}" for k in shared if state[k].shape != own[k].shape
    )
    if missing or unknown or differ:
        raise InputError(
            f"{where}: does not fit the network: {list_keys('missing', missing)}; {list_keys('unknown', unknown)}; "
            f"{list_keys('differing', differ)}"
        )


@contextmanager
def broken_named(where: str, state: Mapping[str, object]) -> Iterator[None]:
    """Inside the block, what a broken file leads to becomes one line with the keys it may be due to.

    state: if no key is missing, those are named whose values are oddest: no tensors, or of the fewest axes

    Raises:
        InputError: Anything went wrong.
    """
    try:
        yield
    except InputError:
        raise
    except KeyError as error:
        raise InputError(f"{where}: broken: {list_keys('missing', [str(error.args[0])])}: take a whole file") from None
    except (IndexError, ValueError, TypeError, AttributeError, RuntimeError, ArithmeticError, AssertionError):
        odd = sorted(state, key=lambda key: getattr(state[key], "ndim", -1))
        shown = [f"{key} {tuple(getattr(state[key], 'shape', ()))}" for key in odd]
        raise InputError(f"{where}: broken: {list_keys('odd', shown)}: take a whole file") from None


def list_keys(what: str, names: list[str]) -> str:
    """``3 unknown keys (a, b, c)``, shortened."""
    shown = ", ".join(names[:6]) + (", …" if len(names) > 6 else "")
    return f"{len(names)} {what} keys" + (f" ({shown})" if names else "")
