"""The published loss code of StyleGAN2, CDC and MixDL, run from its training scripts on the same features."""

import ast
import math
import os
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy
import pytest
import torch
from torch import Tensor, nn

from tenshot.losses import (
    cross_domain_distance_loss,
    mixup_distance_loss,
    nonsaturating_discriminator_loss,
    nonsaturating_generator_loss,
    path_length_penalty,
    path_lengths,
    r1_penalty,
)

SHAPES = [(6, 4, 4), (5, 8, 8), (5, 8, 8), (4, 16, 16), (4, 16, 16)]
WEIGHT = 1000.0


@pytest.fixture(autouse=True)
def _in_float64() -> Iterator[None]:
    """So that the difference of two formulas would not hide in rounding; the scripts allocate in the default type."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


class OnTheCPU(ast.NodeTransformer):
    """``x.cuda()`` becomes ``x``."""

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        is_cuda = isinstance(node.func, ast.Attribute) and node.func.attr == "cuda"
        return node.func.value if is_cuda else node  # type: ignore[attr-defined]


def script(variable: str, name: str) -> ast.Module:
    """A script of the checkout that ``variable`` names; without one, skip."""
    path = os.environ.get(variable)
    if not path:
        pytest.skip(f"set {variable} to a checkout of the official repository to run this comparison")
    return ast.parse((Path(path) / name).read_text())


def run(statements: list[ast.stmt], **names: Any) -> dict[str, Any]:
    """What the statements define."""
    module = OnTheCPU().visit(ast.Module(statements, type_ignores=[]))
    exec(compile(ast.fix_missing_locations(module), "official", "exec"), names)
    return names


def functions(tree: ast.Module, *wanted: str) -> SimpleNamespace:
    """Functions of the script, without the imports that need CUDA."""
    found = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name in wanted]
    gradfix = SimpleNamespace(no_weight_gradients=nullcontext)
    names = {"torch": torch, "F": nn.functional, "autograd": torch.autograd, "math": math, "conv2d_gradfix": gradfix}
    return SimpleNamespace(**run(found, **names))


def mentioning(body: list[ast.stmt], first: str, last: str) -> list[ast.stmt]:
    """The statements from the first that assigns ``first``, anywhere in it, to the one that assigns ``last``."""

    def assigns(statement: ast.stmt, name: str) -> bool:
        return any(
            isinstance(n, ast.Name) and n.id == name and isinstance(n.ctx, ast.Store) for n in ast.walk(statement)
        )

    begin = next(i for i, statement in enumerate(body) if assigns(statement, first))
    end = next(i for i, statement in enumerate(body) if i >= begin and assigns(statement, last))
    return body[begin : end + 1]


def loop(tree: ast.Module) -> list[ast.stmt]:
    """The body of ``train``'s loop."""
    train = next(node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "train")
    return next(node for node in train.body if isinstance(node, ast.For)).body


def features(seed: int, n: int = 4) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(n, *shape, generator=generator).requires_grad_() for shape in SHAPES]


def same(ours: Tensor, theirs: Tensor, leaves: list[Tensor]) -> None:
    """Values agree, and so do the gradients wherever theirs is not missing."""
    torch.testing.assert_close(WEIGHT * ours, theirs, rtol=1e-10, atol=0)
    both = (torch.autograd.grad(loss, leaves, allow_unused=True) for loss in (WEIGHT * ours, theirs))
    pairs = [pair for pair in zip(*both, strict=True) if pair[1] is not None]
    assert pairs
    for mine, other in pairs:
        assert other.abs().max() > 0
        torch.testing.assert_close(mine, other, rtol=1e-10, atol=1e-12 * WEIGHT)


SIMILARITY = {"sfm": nn.Softmax(dim=1), "sim": nn.CosineSimilarity(), "kl_loss": nn.KLDivLoss()}


@pytest.mark.filterwarnings("ignore:reduction. 'mean'")
def test_the_cross_domain_distance_is_cdc_s():
    lines = mentioning(loop(script("CDC", "train.py")), "feat_source", "rel_loss")
    adapted, source = features(0), features(1)
    numpy.random.seed(3)  # noqa: NPY002 (the script draws its layers there)
    found = run(
        lines, torch=torch, numpy=numpy, device="cpu", **SIMILARITY,
        args=SimpleNamespace(feat_const_batch=4, latent=8, kl_wt=WEIGHT),
        g_source=Source(lambda *_, **__: (None, source)),
        generator=lambda *_, **__: (None, adapted),
    )  # fmt: skip
    layers = found["feat_ind"].tolist()
    same(cross_domain_distance_loss(adapted, source, layers), found["rel_loss"], adapted)


class Source:
    """CDC's source generator behind its wrapper."""

    module = SimpleNamespace(n_latent=len(SHAPES) + 1)

    def __init__(self, call: Any) -> None:
        self.call = call

    def __call__(self, *args: Any, **options: Any) -> Any:
        return self.call(*args, **options)


@pytest.mark.filterwarnings("ignore:reduction. 'mean'")
def test_the_generator_s_mixup_distance_is_mixdl_s():
    body = loop(script("MIXDL", "train_mixdl.py"))
    ifs = [node for node in body if isinstance(node, ast.If) and "dist_target" in ast.unparse(node)]
    assert len(ifs) == 1
    lines = mentioning(ifs[0].body, "z", "rel_loss")
    plain, mixed = features(0), features(1)
    alpha = torch.rand(4, 4, generator=torch.Generator().manual_seed(2))
    alpha /= alpha.sum(dim=1, keepdim=True)
    numpy.random.seed(3)  # noqa: NPY002 (the script draws its layers there)
    found = run(
        lines, torch=torch, numpy=numpy, device="cpu", alpha=alpha, **SIMILARITY,
        args=SimpleNamespace(batch=4, latent=8, kl_wt=WEIGHT), generator=MixedGenerator(plain, mixed),
    )  # fmt: skip
    layers = found["feat_ind"].tolist()
    same(mixup_distance_loss(mixed, plain, alpha, layers), found["rel_loss"], [*mixed, *plain])


class MixedGenerator:
    """Gives the features of the samples on the first call, those of the mixes on the second."""

    num_layers = len(SHAPES)

    def __init__(self, *answers: list[Tensor]) -> None:
        self.answers = iter(answers)

    def get_latent(self, z: Tensor) -> Tensor:
        return z

    def __call__(self, *_: Any, **__: Any) -> tuple[None, list[Tensor]]:
        return None, next(self.answers)


@pytest.mark.filterwarnings("ignore:reduction. 'mean'")
def test_the_discriminator_s_mixup_distance_is_mixdl_s():
    """Its lines stand in the forward pass of the discriminator, with samples and mixes in one batch."""
    tree = script("MIXDL", "model_cdc.py")
    branches = [n for n in ast.walk(tree) if isinstance(n, ast.If) and ast.unparse(n.test) == "sim"]
    assert len(branches) == 1
    lines = mentioning(branches[0].body, "n_sample", "sims")
    more = branches[0].body[branches[0].body.index(lines[-1]) + 1 :]
    step = [n for n in ast.walk(script("MIXDL", "train_mixdl.py")) if isinstance(n, ast.Assign)]
    step = [n for n in step if "sim_pred" in ast.unparse(n.value) and ast.unparse(n.targets[0]) == "rel_loss"]
    both = torch.randn(8, 16, generator=torch.Generator().manual_seed(0)).requires_grad_()
    alpha = torch.rand(4, 4, generator=torch.Generator().manual_seed(2))
    alpha /= alpha.sum(dim=1, keepdim=True)
    owner = SimpleNamespace(sfm=SIMILARITY["sfm"], sim=SIMILARITY["sim"])
    found = run([*lines, *more], torch=torch, self=owner, pre_out=both, batch=8)
    theirs = run(
        step, torch=torch, alpha=alpha, sim_pred=found["sims"], args=SimpleNamespace(d_kl_wt=WEIGHT), **SIMILARITY
    )
    same(mixup_distance_loss(both[4:], both[:4], alpha), theirs["rel_loss"], [both])


def test_adversarial_losses_and_penalties_are_those_of_the_pytorch_port():
    official = functions(
        script("STYLEGAN2_PYTORCH", "train.py"),
        "g_nonsaturating_loss", "d_logistic_loss", "d_r1_loss", "g_path_regularize",
    )  # fmt: skip
    torch.manual_seed(0)
    real, fake = torch.randn(4, 1), torch.randn(4, 1)
    assert nonsaturating_generator_loss(fake).item() == official.g_nonsaturating_loss(fake).item()
    assert nonsaturating_discriminator_loss(real, fake).item() == official.d_logistic_loss(real, fake).item()

    images, weight = torch.randn(4, 3, 8, 8, requires_grad=True), torch.randn(192, 5, requires_grad=True)
    logits = (images.flatten(1) @ weight).tanh().sum(dim=1, keepdim=True)
    ours, theirs = r1_penalty(logits, images).mean(), official.d_r1_loss(logits, images)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=0)
    torch.testing.assert_close(*(torch.autograd.grad(x, weight, retain_graph=True) for x in (ours, theirs)))

    styles, weight = torch.randn(4, 6, 5, requires_grad=True), torch.randn(30, 192, requires_grad=True)
    images = (styles.flatten(1) @ weight).sin().view(4, 3, 8, 8)
    before = torch.tensor(1.3)
    torch.manual_seed(5)
    theirs, after, lengths = official.g_path_regularize(images, styles, before)
    torch.manual_seed(5)
    ours = path_lengths(images, styles)
    torch.testing.assert_close(ours, lengths, rtol=1e-12, atol=0)
    penalty, moved = path_length_penalty(ours, before)
    torch.testing.assert_close((penalty, moved), (theirs, after), rtol=1e-12, atol=0)
    torch.testing.assert_close(*(torch.autograd.grad(x, weight, retain_graph=True) for x in (penalty, theirs)))
