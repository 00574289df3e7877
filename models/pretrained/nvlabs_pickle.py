"""The networks in a pickle of NVlabs' StyleGAN2-ADA code, without running what the pickle says.

Such a file is a pickled dictionary ``G, D, G_ema, …`` of objects that carry the source of their own classes, which the
official reader executes. Here a class or function named by the file is looked up in a closed table, whose functions
keep tensors and plain containers and drop everything else, the source included.
"""

import io
import pickle
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tenshot.errors import InputError

__all__ = ["PickledNetwork", "read_nvlabs_pickle"]


@dataclass(frozen=True)
class PickledNetwork:
    """A network out of such a file.

    Args:
        class_name: Its class in the official code.
        arguments: What it was built with, by name.
        state: Parameters and buffers under the names of the official code, on the CPU.
    """

    class_name: str
    arguments: Mapping[str, Any]
    state: dict[str, Tensor]


def read_nvlabs_pickle(path: str | Path) -> dict[str, PickledNetwork]:
    """The networks of a file of NVlabs' StyleGAN2-ADA PyTorch code, by name: ``G``, ``D``, ``G_ema``.

    Raises:
        InputError: The file holds any other class or function than such networks need, also inside the bytes of a
            tensor; or it is truncated, or holds no network. Nothing in it was run.
    """
    try:
        with open(path, "rb") as file, torch.device("cpu"):
            content = _Reader(file).load()
        found = content if isinstance(content, dict) else {}
        networks = {name: _network(found[name]) for name in ("G", "D", "G_ema") if isinstance(found.get(name), _Kept)}
    except _Refused as refused:
        raise InputError(f"{path}: {refused}") from None
    except Exception as error:  # on bytes that are no pickle the unpickler stumbles in many ways
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{path}: truncated or not a pickle of networks ({reason}): download it again") from None
    if not networks:
        raise InputError(f"{path}: a pickle without G, D or G_ema of NVlabs' StyleGAN2-ADA PyTorch code")
    return networks


class _Refused(Exception):
    """The file asks for more than tensors and containers; the message says for what."""


class _Kept:
    """The state of an object of a class that comes with its source; the source is not kept."""

    __slots__ = ("class_name", "state")

    def __init__(self, class_name: str, state: dict[str, Any]) -> None:
        self.class_name, self.state = class_name, state


class _Ignored:
    """Stands for a value that no network is built from, such as a gain as a NumPy scalar."""

    __slots__ = ()

    def __setstate__(self, state: object) -> None:
        """Forget it."""


class _Reader(pickle.Unpickler):
    """Finds nothing but what is in its table.

    The functions are bound methods: unlike functions of a module, a pickle cannot set their attributes.
    """

    def find_class(self, module: str, name: str) -> Any:
        """The stand-in for a name in the file; no module is ever imported for one."""
        table: dict[str, Callable[..., Any]] = {
            "torch_utils.persistence._reconstruct_persistent_obj": self._keep,
            "torch._utils._rebuild_tensor_v2": self._tensor,
            "torch._utils._rebuild_parameter": self._parameter,
            "torch.storage._load_from_bytes": self._storage,
            "numpy.core.multiarray.scalar": self._ignore,
            "numpy._core.multiarray.scalar": self._ignore,
            "numpy.dtype": self._ignore,
            "dnnlib.util.EasyDict": dict,
            "collections.OrderedDict": OrderedDict,
            "builtins.set": set,
            "__builtin__.set": set,
        }
        found = table.get(f"{module}.{name}")
        if found is None and module.startswith("dnnlib.tflib"):
            raise _Refused("of the TensorFlow code: convert it with legacy.py of stylegan2-ada-pytorch first")
        if found is None:
            raise _Refused(_foreign(f"{module}.{name}"))
        return found

    def _keep(self, meta: Any) -> _Kept:
        state = meta.get("state") if isinstance(meta, dict) else None
        if not isinstance(state, dict):
            raise _Refused("an object in it has no state: not of NVlabs' StyleGAN2-ADA PyTorch code")
        return _Kept(str(meta.get("class_name")), state)

    def _storage(self, content: bytes) -> Any:
        """The numbers of a tensor: again a pickle, which torch's own restricted reader takes."""
        try:
            storage = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        except Exception as error:
            _, _, rest = str(error).partition("GLOBAL ")
            raise _Refused(_foreign(rest.split()[0]) if rest else "the numbers of a tensor in it are torn") from None
        if not isinstance(storage, torch.TypedStorage | torch.UntypedStorage):
            raise _Refused(f"a {type(storage).__name__} stands where the numbers of a tensor belong")
        return storage

    def _tensor(self, storage: Any, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: object) -> Tensor:
        if not isinstance(storage, torch.TypedStorage):
            raise _Refused(f"a {type(storage).__name__} stands where the numbers of a tensor belong")
        numbers, dtype = storage._untyped_storage, storage.dtype  # its public ways warn that it is deprecated
        end = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True)) + 1
        if min(offset, *size, *stride, 0) < 0 or end * dtype.itemsize > numbers.nbytes():
            raise _Refused("a tensor in it is larger than its numbers")  # set_ would add stray memory to them
        return torch.empty(0, dtype=dtype).set_(numbers, offset, size, stride)

    def _parameter(self, tensor: Tensor, *_: object) -> Tensor:
        return tensor

    def _ignore(self, *_: object) -> _Ignored:
        return _Ignored()


def _foreign(name: str) -> str:
    return f"holds {name}, which no network needs and which may run code: refused, nothing of it was run"


def _network(kept: _Kept) -> PickledNetwork:
    arguments = kept.state.get("_init_kwargs")
    return PickledNetwork(kept.class_name, arguments if isinstance(arguments, dict) else {}, dict(_tensors(kept, "")))


def _tensors(module: _Kept, prefix: str) -> Iterator[tuple[str, Tensor]]:
    """Parameters and buffers, named as in a state dict."""
    for group in ("_parameters", "_buffers"):
        for name, value in module.state.get(group, {}).items():
            if isinstance(value, Tensor):
                yield f"{prefix}{name}", value
    for name, child in module.state.get("_modules", {}).items():
        if isinstance(child, _Kept):
            yield from _tensors(child, f"{prefix}{name}.")
