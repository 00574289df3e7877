"""A checkpoint as it is now, in host memory, while training goes on changing what it was made of."""

import copy
from collections.abc import Mapping
from typing import Any

from torch import Tensor

__all__ = ["host_copy"]


def host_copy(tree: Any) -> Any:
    """Copy all tensors to host memory, and everything that can be changed besides; equal objects stay one object.

    Args:
        tree: Mappings, lists and tuples of tensors and of what ``copy.deepcopy`` takes.
    """
    return _copied(tree, {})


def _copied(tree: Any, known: dict[int, Any]) -> Any:
    if id(tree) in known:
        return known[id(tree)]
    if isinstance(tree, Tensor):
        new: Any = tree.detach().to("cpu", copy=True)
    elif isinstance(tree, Mapping):
        new = copy.copy(tree)  # a state_dict has attributes beside its items
        for key, value in tree.items():
            new[key] = _copied(value, known)
    elif type(tree) in (list, tuple):
        new = type(tree)(_copied(value, known) for value in tree)
    else:
        return copy.deepcopy(tree)
    known[id(tree)] = new
    return new
