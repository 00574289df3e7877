"""Import the official repositories from a checkout named by an environment variable, or skip."""

import importlib
import importlib.util
import os
import sys
import types
from types import ModuleType

import pytest
import torch
from torch import nn

# what their modules import but the parts compared here do not use
_STUBS = {
    "mpi4py": ("MPI",), "blobfile": (), "tensorboardX": (), "timm": (), "timm.models": (),
    "timm.models.vision_transformer": ("PatchEmbed",),
}  # fmt: skip


def official(variable: str, module: str) -> ModuleType:
    """A module, such as ``folder/package.module``, of the checkout that ``variable`` names; without one, skip."""
    path = os.environ.get(variable)
    if not path:
        pytest.skip(f"set {variable} to a checkout of the official repository to run this comparison")
    for name, members in _STUBS.items():
        if name not in sys.modules and importlib.util.find_spec(name) is None:
            stub = types.ModuleType(name)
            stub.__path__ = []
            for member in members:
                setattr(stub, member, types.SimpleNamespace())
            sys.modules[name] = stub
    package, name = module.rsplit("/", 1)[-1].split(".", 1)
    alias = f"{variable.lower()}_{package}"  # two repositories have a package of one name
    if alias not in sys.modules:
        folder = types.ModuleType(alias)
        folder.__path__ = [os.path.join(path, *module.split(".", 1)[0].split("/"))]
        sys.modules[alias] = folder
    return importlib.import_module(f"{alias}.{name}")


def randomised(network: nn.Module) -> nn.Module:
    """Every weight random, so that nothing agrees vacuously, at scales at which an output depends on all its inputs."""
    generator = torch.Generator().manual_seed(0)
    for name, weight in network.named_parameters():
        noise = torch.randn(weight.shape, generator=generator)
        norm = weight.dim() == 1 and name.endswith("weight")
        fan_in = weight[0].numel() if weight.dim() > 1 and weight.shape[0] > 1 else 100
        weight.data = noise / fan_in**0.5 + norm
    return network.eval()
