"""The PatchGAN discriminator, against its published size, plain functions in float64, and the official code."""

import numpy as np
import pytest
import torch
from official_code import official
from torch import Tensor
from torch.nn import functional as F

from tenshot import models
from tenshot.errors import InputError
from tenshot.models import PatchGANDiscriminator


def images(n: int = 2, side: int = 24, seed: int = 0) -> Tensor:
    return torch.rand(n, 3, side, side, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_the_default_is_pix2pix_s():
    with torch.device("meta"):
        discriminator = PatchGANDiscriminator()
    assert sum(weight.numel() for weight in discriminator.parameters()) == 2_764_737
    assert PatchGANDiscriminator(channels=1)(torch.zeros(2, 3, 256, 256)).shape == (2, 1, 30, 30)


@pytest.mark.parametrize(("layers", "strides"), [(1, [2, 1, 1]), (2, [2, 2, 1, 1]), (3, [2, 2, 2, 1, 1])])
def test_logits_are_those_of_plain_convolutions_and_normalisations(layers: int, strides: list[int]):
    discriminator = PatchGANDiscriminator(channels=4, layers=layers)
    x = images(side=32).double()
    weights = [value.detach().double() for value in discriminator.parameters()]
    for number, stride in enumerate(strides):
        x = F.conv2d(F.pad(x, (1, 1, 1, 1)), weights[2 * number], weights[2 * number + 1], stride)
        if 0 < number < len(strides) - 1:
            maps = x.numpy()
            mean, variance = maps.mean(axis=(2, 3), keepdims=True), maps.var(axis=(2, 3), keepdims=True)
            x = torch.from_numpy((maps - mean) / np.sqrt(variance + 1e-5))
        if number < len(strides) - 1:
            x = torch.where(x > 0, x, 0.2 * x)
    assert x.shape == (2, 1, 32 // 2**layers - 2, 32 // 2**layers - 2)
    torch.testing.assert_close(discriminator(images(side=32)).double(), x, rtol=1e-4, atol=1e-5)


def test_channels_double_up_to_eightfold():
    shapes = [w.shape[0] for w in PatchGANDiscriminator(channels=2, layers=5).parameters() if w.dim() == 4]
    assert shapes == [2, 4, 8, 16, 16, 16, 1]


def test_it_computes_in_float32_under_autocast():
    discriminator = PatchGANDiscriminator(channels=4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = discriminator(images().bfloat16())
    assert logits.dtype == torch.float32
    assert torch.equal(logits, discriminator(images().bfloat16().float()))


def test_too_small_images_are_refused():
    with pytest.raises(InputError, match=r"^images of 32 x 23 leave.* at least 24 px, or fewer layers$"):
        PatchGANDiscriminator(channels=2)(torch.zeros(1, 3, 23, 32))
    assert PatchGANDiscriminator(channels=2)(torch.zeros(1, 3, 24, 24)).shape == (1, 1, 1, 1)


def test_the_earlier_name_of_the_patch_heads_is_still_theirs():
    assert models.PatchDiscriminator is models.stylegan2.discriminator.PatchDiscriminator is models.PatchHeads


def test_parity_with_the_official_code():
    theirs = official("PITI", "pretrained_diffusion.adv").NLayerDiscriminator()
    ours = PatchGANDiscriminator()
    ours.load_state_dict({key.replace("model.", "network."): value for key, value in theirs.state_dict().items()})
    torch.testing.assert_close(ours(images(side=64)), theirs(images(side=64)))
