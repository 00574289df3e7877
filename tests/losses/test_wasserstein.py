"""WGAN's losses and its gradient penalty, against closed forms, finite differences and PITI's code."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from official_code import official
from torch import Tensor, nn
from torch.autograd import gradcheck

from tenshot.losses import (
    interpolated,
    wasserstein_critic_loss,
    wasserstein_generator_loss,
    wgan_gradient_penalty,
)
from tenshot.models import PatchGANDiscriminator


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_losses_are_means_of_logits_and_each_image_has_its_own():
    real, fake = normal(5, 1, 3, 4), normal(5, 1, 3, 4, seed=1)
    assert wasserstein_critic_loss(real, fake).item() == pytest.approx(fake.numpy().mean() - real.numpy().mean())
    ours = wasserstein_generator_loss(fake)
    np.testing.assert_allclose(ours, [-image.numpy().mean() for image in fake], rtol=1e-12)
    np.testing.assert_allclose(wasserstein_generator_loss(fake[:, 0, 0, 0]), -fake[:, 0, 0, 0], rtol=1e-12)


def test_reduced_logits_are_averaged_in_float32():
    rough = (100 + normal(64)).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = wasserstein_critic_loss(rough, torch.zeros_like(rough)), wasserstein_generator_loss(rough[None])[0]
    for loss in losses:
        assert loss.dtype == torch.float32
        assert loss.item() == pytest.approx(-rough.double().mean().item(), rel=1e-6)


def test_interpolated_images_lie_on_the_line_each_at_its_own_place():
    real, fake = normal(3, 2, 2, 2).requires_grad_(), normal(3, 2, 2, 2, seed=1).requires_grad_()
    images = interpolated(real, fake, torch.tensor([0.0, 0.25, 1.0]))
    torch.testing.assert_close(images[0], fake[0])
    torch.testing.assert_close(images[1], 0.25 * real[1] + 0.75 * fake[1])
    torch.testing.assert_close(images[2], real[2])
    assert images.is_leaf
    assert images.requires_grad
    torch.manual_seed(0)
    ones, zeros = torch.ones(4000, 1, 1, 2), torch.zeros(4000, 1, 1, 2)
    drawn = interpolated(ones, zeros).detach()
    assert torch.equal(drawn[..., 0], drawn[..., 1])
    shares = np.histogram(drawn[:, 0, 0, 0], bins=4, range=(0, 1))[0] / 4000
    np.testing.assert_allclose(shares, 0.25, atol=0.03)


def test_the_penalty_of_a_linear_critic_is_known():
    weight, images = normal(48), normal(5, 3, 4, 4, seed=1).requires_grad_()
    penalty = wgan_gradient_penalty(images.flatten(1) @ weight, images)
    torch.testing.assert_close(penalty, (weight.norm() - 1).square().expand(5))
    unit = wgan_gradient_penalty(images.flatten(1) @ (weight / weight.norm()), images)
    assert unit.abs().max() < 1e-20


def test_of_a_map_it_is_the_sum_of_the_patches_that_is_differentiated():
    images, kernel = normal(2, 3, 5, 4).requires_grad_(), normal(1, 3, 3, 3, seed=1)
    patches = nn.functional.conv2d(images, kernel, padding=1).sin()
    torch.testing.assert_close(
        wgan_gradient_penalty(patches, images), wgan_gradient_penalty(patches.sum(dim=(1, 2, 3)), images)
    )


def test_the_penalty_of_the_patch_discriminator_and_its_derivatives_by_finite_differences():
    """Which sees float64 here; its norm is away from 0 and its leaky ReLUs from their bends."""
    torch.manual_seed(0)
    discriminator = PatchGANDiscriminator(channels=1, layers=1).double()
    images, step = interpolated(normal(2, 3, 6, 6), normal(2, 3, 6, 6, seed=1), torch.tensor([0.3, 0.6])), 1e-5
    penalty = wgan_gradient_penalty(discriminator(images), images)
    moves = torch.eye(108, dtype=torch.float64).view(108, 3, 6, 6) * step
    with torch.no_grad():
        for image, ours in zip(images, penalty, strict=True):
            up, down = (discriminator(image + sign * moves).sum(dim=(1, 2, 3)) for sign in (1, -1))
            norm = ((up - down) / (2 * step)).norm()
            assert ours.item() == pytest.approx((norm - 1).square().item(), rel=1e-6)

    first, *_ = discriminator.parameters()

    def of_weights(weight: Tensor) -> Tensor:
        logits = torch.func.functional_call(discriminator, {"network.0.weight": weight}, (images,))
        return wgan_gradient_penalty(logits, images)

    leaf = first.detach().clone().requires_grad_()
    assert gradcheck(of_weights, leaf)


def test_a_critic_that_knows_nothing_has_a_penalty_of_one_and_a_finite_derivative():
    scale, images = torch.zeros((), requires_grad=True), torch.rand(3, 1, 2, 2, requires_grad=True)
    penalty = wgan_gradient_penalty((scale * images).sum(dim=(1, 2, 3)), images)
    torch.testing.assert_close(penalty, torch.ones(3))
    penalty.sum().backward()
    assert scale.grad is not None
    assert scale.grad.isfinite()


def test_autocast_leaves_the_penalty_and_its_derivatives_alone():
    torch.manual_seed(0)
    discriminator, images = PatchGANDiscriminator(channels=2), torch.rand(2, 3, 24, 24)
    found = []
    for enabled in (False, True):
        leaf = images.clone().requires_grad_()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            penalty = wgan_gradient_penalty(discriminator(leaf), leaf)
        found.append([penalty, *torch.autograd.grad(penalty.sum(), list(discriminator.parameters())[:3])])
    for plain, under in zip(*found, strict=True):
        assert under.dtype == torch.float32
        assert torch.equal(plain, under)


def test_parity_with_the_official_step(monkeypatch: pytest.MonkeyPatch):
    """PITI's critic step by plain gradient descent: its weights move by our loss's gradient."""
    adv = official("PITI", "pretrained_diffusion.adv")
    monkeypatch.setattr(adv, "dist_util", SimpleNamespace(dev=lambda: torch.device("cpu")))
    torch.manual_seed(0)
    ours, theirs = PatchGANDiscriminator(), adv.NLayerDiscriminator()
    ours.load_state_dict({key.replace("model.", "network."): value for key, value in theirs.state_dict().items()})
    loss = adv.AdversarialLoss.__new__(adv.AdversarialLoss)
    nn.Module.__init__(loss)
    loss.gan_type, loss.gan_k, loss.discriminator = "WGAN_GP", 1, theirs
    loss.optimizer = torch.optim.SGD(theirs.parameters(), lr=1e-3)
    fake, real = torch.rand(2, 3, 32, 32), torch.rand(2, 3, 32, 32) * 2 - 1
    torch.manual_seed(7)
    of_generator = loss(fake, real)

    torch.manual_seed(7)
    images = interpolated(real, fake)
    critic = wasserstein_critic_loss(ours(real), ours(fake)) + 10 * wgan_gradient_penalty(ours(images), images).mean()
    gradients = torch.autograd.grad(critic, list(ours.parameters()))
    with torch.no_grad():
        for weight, gradient, other in zip(ours.parameters(), gradients, theirs.parameters(), strict=True):
            weight -= 1e-3 * gradient
            torch.testing.assert_close(weight, other.detach(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(wasserstein_generator_loss(ours(fake)), of_generator)
