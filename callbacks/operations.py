"""Counting the floating point operations of what is done, by PyTorch's own formulas."""

from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

__all__ = ["Operations"]


class Operations(TorchDispatchMode):
    """Inside the block, add up what matrix products, convolutions and attention take, forward and backward.

    The formulas are those of ``torch.utils.flop_counter``. Its ``FlopCounterMode`` cannot be used itself: it follows
    modules by hooks on tensors, and with these ``autograd.grad``, which the penalties of GANs are made of, raises.
    """

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        """Do the operation, and count it."""
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        formula = flop_registry.get(func.overloadpacket)
        if formula is not None:
            self.count += formula(*args, **kwargs, out_val=out)
        return out
