"""Import the official repositories from a checkout named by an environment variable, or skip."""

import importlib
import importlib.util
import os
import sys
import types
from types import ModuleType

import pytest

# what their modules import but the parts compared here do not use
_STUBS = {"mpi4py": ("MPI",), "blobfile": (), "tensorboardX": ()}


def official(variable: str, module: str) -> ModuleType:
    """Module ``module`` of the checkout in the environment variable ``variable``; skips the test without one."""
    path = os.environ.get(variable)
    if not path:
        pytest.skip(f"set {variable} to a checkout of the official repository to run this comparison")
    for name, members in _STUBS.items():
        if name not in sys.modules and importlib.util.find_spec(name) is None:
            stub = types.ModuleType(name)
            for member in members:
                setattr(stub, member, types.SimpleNamespace())
            sys.modules[name] = stub
    if path not in sys.path:
        sys.path.insert(0, path)
    return importlib.import_module(module)
