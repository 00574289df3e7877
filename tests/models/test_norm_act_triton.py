"""The kernels of GPUs in Triton's interpreter on the CPU, against float64 and against PyTorch's operations.

Triton decides when it is imported whether it interprets: the checks run in a process of their own.
"""

import os
import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tenshot.models import norm_act_conv as norm_act_conv_module
from tenshot.models.norm_act_conv import kernels_for, norm_act, norm_act_conv

interpreted = pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") != "1", reason="run by the first test, interpreted")
EPS = {torch.float32: 2e-6, torch.bfloat16: 1e-2, torch.float16: 8e-4}  # the interpreter cuts bfloat16 off
SHAPES = [(1, 6, 1, 1, 2), (2, 10, 3, 8, 2), (1, 132, 3, 11, 3)]  # N, C, H, W and groups
CASES = [
    (torch.float32, SHAPES[0], True, True),
    (torch.float32, SHAPES[1], False, True),
    (torch.float32, SHAPES[2], True, False),
    (torch.bfloat16, SHAPES[1], True, True),
    (torch.bfloat16, SHAPES[2], False, False),
    (torch.float16, SHAPES[2], True, True),
]


@pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed; it comes with PyTorch for CUDA")
@pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") == "1", reason="it runs the others")
@pytest.mark.slow
def test_kernels_in_the_interpreter():
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--no-header", "--noconftest", __file__],
        env={**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert done.stdout.count(".") > len(CASES)  # they ran


def made(n: int, channels: int, height: int, width: int, groups: int, modulated: bool, offset: float = 0.5):
    """Map, norm and modulation, in float64."""
    torch.manual_seed(0)
    x = offset + torch.randn(n, channels, height, width, dtype=torch.float64)
    norm = nn.GroupNorm(groups, channels, eps=1e-5, dtype=torch.float64)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    modulation = torch.randn(n, 2 * channels, dtype=torch.float64) if modulated else None
    return x, norm, modulation


def reference(x: Tensor, norm: nn.GroupNorm, modulation: Tensor | None, silu: bool) -> Tensor:
    """One operation after the other."""
    h = F.group_norm(x, norm.num_groups, norm.weight, norm.bias, norm.eps)
    if modulation is not None:
        scale, shift = modulation.chunk(2, dim=1)
        h = h * (1 + scale[:, :, None, None]) + shift[:, :, None, None]
    return F.silu(h) if silu else h


def error(found: Tensor, expected: Tensor) -> float:
    """||found - expected|| / ||expected||; where the expected is nothing but rounding, ||found|| itself."""
    assert found.shape == expected.shape
    assert found.isfinite().all()
    found, expected = found.detach().double(), expected.detach().double()
    scale = expected.norm()
    return float((found - expected).norm() / (scale if scale > 1e-9 else 1))


@pytest.fixture
def kernels(monkeypatch):
    """The kernels, taken for every map."""
    found = import_module("tenshot.models.norm_act_triton")
    monkeypatch.setattr(norm_act_conv_module, "kernels_for", lambda x: found)
    return found


@interpreted
@pytest.mark.parametrize(("dtype", "shape", "modulated", "silu"), CASES)
def test_values_and_gradients_equal_those_in_float64(kernels, dtype, shape, modulated, silu):
    x, norm, modulation = made(*shape, modulated)
    x = x.to(dtype).double().requires_grad_()
    towards = torch.randn_like(x).to(dtype).double()
    if modulation is not None:
        modulation.requires_grad_()
    expected = reference(x, norm, modulation, silu)
    inputs = [x, *norm.parameters(), *([modulation] if modulated else [])]
    gradients = torch.autograd.grad(expected, inputs, towards)

    layout = torch.channels_last
    mine = x.detach().to(dtype).contiguous(memory_format=layout).requires_grad_()
    norm = norm.float()
    modulation = modulation.detach().float().requires_grad_() if modulated else None
    found = norm_act(mine, norm, modulation, silu)
    assert found.dtype == dtype
    assert found.is_contiguous(memory_format=layout)
    assert error(found, expected) < EPS[dtype]
    with torch.no_grad():
        assert torch.equal(norm_act(mine, norm, modulation, silu), found)
    mine_too = [mine, *norm.parameters(), *([modulation] if modulated else [])]
    for ours, theirs in zip(torch.autograd.grad(found, mine_too, towards.to(dtype)), gradients, strict=True):
        assert error(ours, theirs) < 4 * EPS[dtype]


@interpreted
@pytest.mark.parametrize(
    ("shape", "programs", "modulated"), [((2, 8, 15, 13, 2), 4, True), ((1, 4, 23, 24, 1), 4096, False)]
)
def test_no_digits_are_lost_where_the_mean_is_large(kernels, monkeypatch, shape, programs, modulated):
    x, norm, modulation = made(*shape, modulated, offset=30.0)
    monkeypatch.setattr(kernels, "PROGRAMS", programs)  # several tiles a strip, or more strips than are read at once
    kernels._strips.cache_clear()
    x = x.float().contiguous(memory_format=torch.channels_last).requires_grad_()
    towards = torch.randn_like(x)
    wide = None if modulation is None else modulation.float().double()
    expected = reference(x.double(), norm.float().double(), wide, True)
    (gradient,) = torch.autograd.grad(expected, x, towards.double())
    found = norm_act(x, norm.float(), None if modulation is None else modulation.float())
    (ours,) = torch.autograd.grad(found, x, towards)
    kernels._strips.cache_clear()
    assert error(found, expected) < 5e-6
    assert error(ours, gradient) < 1e-5


@interpreted
@pytest.mark.parametrize(
    ("size", "modulated", "dtype"),  # every pair of values
    [(1, True, torch.float32), (1, False, torch.bfloat16), (3, True, torch.bfloat16), (3, False, torch.float32)],
)
def test_with_a_convolution_they_equal_pytorch_operations(kernels, monkeypatch, size, modulated, dtype):
    x, norm, modulation = made(2, 8, 6, 5, 4, modulated)
    norm = norm.float()
    conv = nn.Conv2d(8, 5, size, padding=size // 2).to(memory_format=torch.channels_last)
    given = [x.float().contiguous(memory_format=torch.channels_last).requires_grad_()]
    given += [modulation.float().requires_grad_()] if modulated else []
    inputs = [*given, *norm.parameters(), *conv.parameters()]
    results = []
    for used in (kernels, None):
        monkeypatch.setattr(norm_act_conv_module, "kernels_for", lambda x, used=used: used)
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            out = norm_act_conv(given[0], norm, conv, given[1] if modulated else None)
        results.append([out, *torch.autograd.grad(out.float().square().sum(), inputs)])
    for ours, theirs in zip(*results, strict=True):
        assert ours.dtype == theirs.dtype
        assert error(ours, theirs) < 5 * EPS[dtype]


@interpreted
def test_frozen_norms_and_inputs_without_gradient(kernels):
    x, norm, _ = made(1, 4, 3, 3, 2, False)
    x, norm = x.float().contiguous(memory_format=torch.channels_last), norm.float()
    norm_act(x, norm).sum().backward()
    trained = norm.weight.grad.clone()
    norm.requires_grad_(False)
    given = x.clone(memory_format=torch.channels_last).requires_grad_()
    norm_act(given, norm).sum().backward()  # whose gradient is one number, expanded
    expected = torch.autograd.grad(reference(given, norm, None, True).sum(), given)[0]
    assert error(given.grad, expected) < 1e-5
    norm.requires_grad_(True)
    reference(x, norm, None, True).sum().backward()
    torch.testing.assert_close(norm.weight.grad, 2 * trained)


def test_maps_on_the_cpu_are_left_to_pytorch():
    assert kernels_for(torch.zeros(1, 4, 2, 2)) is None


@pytest.mark.parametrize("missing", ["triton", "compiler"])
def test_without_triton_or_a_compiler_one_warning_says_so(monkeypatch, missing):
    if missing == "triton":
        monkeypatch.setitem(sys.modules, "triton", None)
        monkeypatch.delitem(sys.modules, "tenshot.models.norm_act_triton", raising=False)
        monkeypatch.delitem(sys.modules, "tenshot.models.group_norm_triton", raising=False)
    else:

        def check(device: torch.device) -> None:
            raise RuntimeError("Failed to find C compiler.\nPlease install one.")

        monkeypatch.setitem(sys.modules, "tenshot.models.norm_act_triton", SimpleNamespace(check=check))
    said = "Failed to find C compiler.[)]" if missing == "compiler" else "Error: "
    norm_act_conv_module._kernels.cache_clear()
    with pytest.warns(UserWarning, match=f"Triton does not work here .*{said}") as warned:
        assert [norm_act_conv_module._kernels(torch.device("cpu")) for _ in range(2)] == [None, None]
    assert len(warned) == 1
    norm_act_conv_module._kernels.cache_clear()


@interpreted
def test_kernels_that_work_are_taken():
    norm_act_conv_module._kernels.cache_clear()
    found = norm_act_conv_module._kernels(torch.device("cpu"))
    assert found is import_module("tenshot.models.norm_act_triton")
    norm_act_conv_module._kernels.cache_clear()
