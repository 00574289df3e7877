"""The same computation, with the same random draws, on the CPU in float32 and on the device in float32 and bf16."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

from benchmarks.gpu.record import Context

ALLOWED = 1e-4
"""Of the norm of the CPU's result, in float32 without TF32."""
RANDOM = """
bernoulli bernoulli_ native_dropout normal normal_ rand rand_like randint randint_like randn randn_like random_
randperm uniform_ _sample_dirichlet _standard_gamma
"""
Outcome = Mapping[str, Tensor]


class SameDraws(TorchDispatchMode):
    """Draw every random number on the CPU, from one seed, wherever it is wanted."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        name = func._schema.name.partition("::")[2]
        tensors = [value for value in args if isinstance(value, Tensor)]
        device = tensors[0].device if tensors else torch.device(kwargs.get("device") or "cpu")
        if name not in RANDOM.split() or device.type == "cpu" or kwargs.get("generator") is not None:
            return func(*args, **kwargs)
        shaped = name.endswith(("_like", "_"))  # of its argument only the shape is needed

        def on_the_cpu(value: Any) -> Any:
            if not isinstance(value, Tensor):
                return value
            return torch.empty_like(value, device="cpu") if shaped else value.cpu()

        on_cpu = tree_map(on_the_cpu, (args, kwargs))
        if "device" in kwargs:
            on_cpu[1]["device"] = torch.device("cpu")
        drawn = func(*on_cpu[0], **on_cpu[1])
        if func._schema.is_mutable:
            return args[0].copy_(drawn)
        return tree_map(lambda value: value.to(device) if isinstance(value, Tensor) else value, drawn)


@contextmanager
def ieee() -> Iterator[None]:
    """Float32 products and convolutions without TF32."""
    backends: Any = torch.backends
    switches = (backends.cuda.matmul, backends.cudnn.conv)
    before = [switch.fp32_precision for switch in switches]
    try:
        for switch in switches:
            switch.fp32_precision = "ieee"
        yield
    finally:
        for switch, precision in zip(switches, before, strict=True):
            switch.fp32_precision = precision


def difference(ours: Tensor, theirs: Tensor) -> float:
    """Norm of the difference over the norm of theirs."""
    ours, theirs = ours.detach().double().cpu(), theirs.detach().double().cpu()
    assert ours.shape == theirs.shape, f"{tuple(ours.shape)} against {tuple(theirs.shape)}"
    return float((ours - theirs).norm() / theirs.norm().clamp(min=1e-12))


def moved(value: Any, device: torch.device) -> Any:
    """A copy, on the device, of a module, tensor, or lists and dictionaries of them; others as they are."""
    if isinstance(value, Tensor):
        return value.detach().clone().to(device)
    if isinstance(value, torch.nn.Module):
        return deepcopy(value).to(device)
    if isinstance(value, dict):
        return {name: moved(one, device) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(moved(one, device) for one in value)
    return value


def compare(
    context: Context,
    name: str,
    build: Callable[[], Any],
    compute: Callable[[Any], Outcome],
    bf16: bool = True,
    allowed: float = ALLOWED,
) -> None:
    """A row ``name``: of each result the error against the CPU, in float32, and in bf16, which is only reported.

    Args:
        context: Of the stage.
        name: Of the row.
        build: Makes what it is computed from, on the CPU: modules, tensors, dictionaries of them.
        compute: Makes of a copy of that, on its device, the results by name. Its random draws are the same each time.
        bf16: Whether it is also done under autocast.
        allowed: The largest error in float32.
    """
    with context.check("agreement", name) as values:
        torch.manual_seed(0)
        made = build()
        theirs = _outcome(compute, moved(made, torch.device("cpu")))
        with ieee():
            ours = _outcome(compute, moved(made, context.device))
        errors = {key: difference(ours[key], theirs[key]) for key in theirs}
        values["float32"] = errors
        if bf16:
            with ieee():
                half = _outcome(
                    compute, moved(made, context.device), torch.autocast(context.device.type, torch.bfloat16)
                )
            values["bf16"] = {key: difference(half[key], theirs[key]) for key in theirs}
            bad = [key for key, value in half.items() if not value.isfinite().all()]
            assert not bad, f"not finite in bf16: {bad}"
        assert all(value.isfinite().all() for value in theirs.values()), "not finite on the CPU"
        assert all(value.double().norm() > 0 for value in theirs.values()), "nothing but zeros on the CPU"
        far = {key: error for key, error in errors.items() if not error <= allowed}
        assert not far, f"further than {allowed} from the CPU: {far}"


def _outcome(compute: Callable[[Any], Outcome], made: Any, autocast: Any = None) -> dict[str, Tensor]:
    torch.manual_seed(1)
    with ExitStack() as stack:
        stack.enter_context(SameDraws())
        stack.enter_context(autocast or nullcontext())
        return {name: value.detach().cpu() for name, value in compute(made).items()}


def with_gradients(loss: Tensor, module: torch.nn.Module) -> dict[str, Tensor]:
    """A loss, and all gradients of a module's weights in one row. Autocast is left for the backward pass."""
    with torch.autocast(loss.device.type, enabled=False):
        loss.backward()
    gradients = [weight.grad.flatten().float() for weight in module.parameters() if weight.grad is not None]
    return {"loss": loss.detach().float(), "gradients": torch.cat(gradients)}
