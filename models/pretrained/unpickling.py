"""Read pickles, and files of ``torch.save``, without running what they say.

A pickle is a program that may call anything. This reader looks every name in it up in a closed table, whose entries
make tensors, plain containers, NumPy arrays and ``argparse.Namespace``; any other class or function becomes an inert
stand-in that does nothing. No module is imported for a name in a file, and no object of the process is handed to it.
"""

import argparse
import io
import pickle
from collections import Counter, OrderedDict
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor

__all__ = ["Foreign", "Inert", "Persistent", "load_pickle", "load_torch"]


class Foreign(Exception):
    """The file asks for what cannot be; the message says for what."""


class Inert:
    """Stands for an object of a class that is not read, or for the result of a function that is not called."""

    __slots__ = ()

    def __new__(cls, *_: object, **__: object) -> "Inert":
        """Whatever it was made of."""
        return super().__new__(cls)

    def __init__(self, *_: object, **__: object) -> None: ...

    def __setstate__(self, state: object) -> None:
        """Forget it."""

    def __call__(self, *_: object, **__: object) -> "Inert":
        """Nothing happens."""
        return Inert()

    def _forget(self, *_: object) -> None: ...

    append = extend = add = update = __setitem__ = _forget


class Persistent:
    """An object of NVlabs' code, which comes with the source of its class; the source is not kept.

    Args:
        class_name: Its class in that code.
        state: Its attributes.
    """

    __slots__ = ("class_name", "state")

    def __init__(self, class_name: str, state: dict[str, Any]) -> None:
        self.class_name, self.state = class_name, state


class _Known:
    """A function of the table. A pickle can call it, but not change it."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *arguments: Any) -> Any:
        return self._function(*arguments)

    def __setstate__(self, state: object) -> NoReturn:
        raise Foreign("it changes a function")


class _DType:
    """A dtype of NumPy as a pickle describes it."""

    __slots__ = ("code", "order")

    def __init__(self, code: object, *_: object) -> None:
        self.code, self.order = str(code), "="

    def __setstate__(self, state: Any) -> None:
        self.order = str(state[1])

    def real(self) -> np.dtype[Any]:
        """Numbers and text alone: no objects, no records."""
        found = np.dtype(self.code)
        if found.kind not in "biufcSU":
            raise Foreign(f"it has an array of {self.code}")
        return found.newbyteorder("=" if self.order == "|" else self.order)  # type: ignore[arg-type]


class _Array(np.ndarray[Any, Any]):
    def __setstate__(self, state: Any) -> None:
        version, shape, dtype, fortran, content = state
        real, shape = dtype.real(), tuple(map(int, shape))
        if isinstance(content, str):
            content = content.encode("latin1")
        if not isinstance(content, bytes) or len(content) != int(np.prod(shape)) * real.itemsize:
            raise Foreign("an array in it is larger than its numbers")
        super().__setstate__((version, shape, real, bool(fortran), content))  # type: ignore[arg-type]


class _Reader(pickle.Unpickler):
    """Finds nothing but what is in its table, and stand-ins.

    ``foreign`` names what has become inert, in order.
    """

    def __init__(self, file: Any, **options: Any) -> None:
        super().__init__(file, **options)
        self.foreign: dict[str, type[Inert]] = {}
        # classes of this file alone: a pickle may set their attributes
        self._namespace = type("Namespace", (argparse.Namespace,), {})
        self._easy_dict = type("EasyDict", (dict,), {})
        self._array = type("ndarray", (_Array,), {})

    def find_class(self, module: str, name: str) -> Any:
        """The table's entry for a name in the file, or a stand-in."""
        path = f"{module}.{name}"
        if module == "torch" and isinstance(vars(torch).get(name), torch.dtype):
            return vars(torch)[name]
        if path == "argparse.Namespace":
            return self._namespace
        if path == "dnnlib.util.EasyDict":
            return self._easy_dict
        known = self._known(path.replace("numpy._core", "numpy.core").replace("__builtin__", "builtins"))
        if known is not None:
            return _Known(known)
        if module.startswith("dnnlib.tflib"):
            raise Foreign("of the TensorFlow code: convert it with legacy.py of stylegan2-ada-pytorch first")
        if path not in self.foreign:
            self.foreign[path] = type("Inert", (Inert,), {})
        return self.foreign[path]

    def _known(self, path: str) -> Callable[..., Any] | None:
        table: dict[str, Callable[..., Any]] = {
            "torch._utils._rebuild_tensor_v2": _tensor,
            "torch._utils._rebuild_tensor": _tensor,
            "torch._utils._rebuild_parameter": _first,
            "torch._utils._rebuild_parameter_with_state": _first,
            "torch._tensor._rebuild_from_type_v2": _of_type,
            "torch.storage._load_from_bytes": _storage,
            "torch.Size": lambda *of: torch.Size(*of),
            "torch.device": lambda *of: torch.device(*of),
            "torch_utils.persistence._reconstruct_persistent_obj": _persistent,
            "collections.OrderedDict": lambda *of: OrderedDict(*of),
            "collections.defaultdict": lambda _=None, *of: dict(*of),
            "collections.Counter": lambda *of: Counter(*of),
            "builtins.set": lambda *of: set(*of),
            "builtins.frozenset": lambda *of: frozenset(*of),
            "builtins.bytearray": _bytearray,
            "builtins.bytes": lambda *of: bytes(_bytearray(*of)),  # of none, in Python 2's protocol
            "builtins.complex": lambda *of: complex(*of),
            "_codecs.encode": _encoded,
            "copy_reg._reconstructor": self._reconstructed,
            "copyreg._reconstructor": self._reconstructed,
            "numpy.core.multiarray._reconstruct": self._empty_array,
            "numpy.core.numeric._frombuffer": _from_buffer,
            "numpy.core.multiarray.scalar": _scalar,
            "numpy.ndarray": _first,
            "numpy.dtype": _DType,
        }
        return table.get(path)

    def _empty_array(self, *_: object) -> Any:
        return np.ndarray.__new__(self._array, (0,), np.uint8)

    def _reconstructed(self, cls: Any, *_: object) -> Any:
        """Objects of protocols 0 and 1."""
        return cls() if isinstance(cls, type) else Inert()


def _first(value: Any, *_: object) -> Any:
    return value


def _tensor(storage: Any, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: object) -> Tensor:
    if not isinstance(storage, torch.TypedStorage):
        raise Foreign(f"a {type(storage).__name__} stands where the numbers of a tensor belong")
    numbers, dtype = storage._untyped_storage, storage.dtype  # its public ways warn that it is deprecated
    steps = [(n - 1) * step for n, step in zip(size, stride, strict=True)]
    end = offset + sum(steps) + 1 if 0 not in size else 0
    if min(offset, *size, *stride, 0) < 0 or end * dtype.itemsize > numbers.nbytes():
        raise Foreign("a tensor in it is larger than its numbers")  # set_ would add stray memory to them
    return torch.empty(0, dtype=dtype, device="cpu").set_(numbers, offset, size, stride)


def _of_type(function: Any, _: object, arguments: Any, *__: object) -> Any:
    """A tensor of a subclass, as a tensor."""
    return function(*arguments) if isinstance(function, _Known) else Inert()


def _storage(content: bytes) -> Any:
    """The numbers of a tensor: again a pickle, which torch's own restricted reader takes."""
    try:
        storage = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:
        _, _, rest = str(error).partition("GLOBAL ")
        what = f"{rest.split()[0]} stands where" if rest else "torn are"
        raise Foreign(f"{what} the numbers of a tensor belong") from None
    if not isinstance(storage, torch.TypedStorage | torch.UntypedStorage):
        raise Foreign(f"a {type(storage).__name__} stands where the numbers of a tensor belong")
    return storage


def _persistent(meta: Any) -> Persistent:
    state = meta.get("state") if isinstance(meta, dict) else None
    if not isinstance(state, dict):
        raise Foreign("an object in it has no state: not of NVlabs' StyleGAN2-ADA PyTorch code")
    return Persistent(str(meta.get("class_name")), state)


def _bytearray(content: Any = b"", *encoding: str) -> bytearray:
    return bytearray(content if isinstance(content, bytes) else str(content).encode(*encoding))


def _encoded(text: str, encoding: str = "latin1") -> bytes:
    """How Python 2's protocol writes bytes."""
    return str(text).encode("latin1" if encoding != "utf-8" else encoding)


def _from_buffer(content: Any, dtype: _DType, shape: Any, order: str) -> Any:
    return np.frombuffer(content, dtype.real()).reshape(shape, order="F" if order == "F" else "C")


def _scalar(dtype: Any, content: Any = b"") -> Any:
    if isinstance(content, str):
        content = content.encode("latin1")
    return np.frombuffer(content, dtype.real())[0] if content else None


def load_pickle(path: str | Path) -> tuple[Any, list[str]]:
    """What a plain pickle holds, and the names of what has become inert.

    Raises:
        Foreign: It asks for what cannot be.
        Exception: It is torn, or no pickle; the unpickler stumbles in many ways.
    """
    with open(path, "rb") as file:
        reader = _Reader(file)
        return reader.load(), list(reader.foreign)


def load_torch(path: str | Path, mmap: bool) -> tuple[Any, list[str]]:
    """What a file of ``torch.save`` holds, on the CPU, and the names of what has become inert.

    Args:
        path: The file, of the format with a zip directory or of the older one. It must be none of TorchScript.
        mmap: Map the numbers into memory instead of reading them; only for the former.

    Raises:
        Foreign, Exception: As :func:`load_pickle`.
    """
    readers: list[_Reader] = []

    class Kept(_Reader):
        def __init__(self, file: Any, **options: Any) -> None:
            super().__init__(file, **options)
            readers.append(self)

    module = SimpleNamespace(
        __name__="restricted", Unpickler=Kept, load=lambda file, **options: Kept(file, **options).load()
    )
    content = torch.load(path, map_location="cpu", pickle_module=module, weights_only=False, mmap=mmap)
    return content, list(dict.fromkeys(name for reader in readers for name in reader.foreign))
