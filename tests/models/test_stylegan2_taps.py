"""The inner outputs of the discriminator that CDC and MixDL judge."""

import pytest
import tiny
import torch
from torch import Tensor, nn

from tenshot.errors import InputError
from tenshot.models import PatchHeads, StyleGAN2Config, StyleGAN2Discriminator


class Calls:
    """Convolutions of a discriminator in the order they ran, with what they returned."""

    def __init__(self, discriminator: nn.Module) -> None:
        self.seen: list[tuple[str, Tensor]] = []
        for name, module in discriminator.named_modules():
            if name.endswith(("conv1", "conv2", "skip", "conv", "linear", "from_rgb", "output")):
                module.register_forward_hook(lambda _m, _i, out, name=name: self.seen.append((name, out)))


@pytest.mark.parametrize("size", [32, 64, 256])
@pytest.mark.parametrize("index", range(4))
def test_taps_are_inner_outputs_and_nothing_else_is_computed(size, index):
    config = StyleGAN2Config(size, channel_base=8 * size, max_channels=16, latent_dim=4)
    discriminator = tiny.randomised(StyleGAN2Discriminator(config))
    calls = Calls(discriminator)
    x = torch.randn(1, 3, size, size)
    tap = discriminator.tap(x, index)
    names = [name for name, _ in calls.seen]
    outputs = dict(calls.seen)

    first = {32: 0, 64: 1, 256: 2}[size]  # the block that ends at the larger of the two resolutions
    last = f"blocks.{first + (index + 1) // 2}.{'conv2' if index % 2 == 0 else 'conv1'}"
    assert names[-1] == last
    assert len(set(names)) == len(names)
    assert names == ["from_rgb", *(n for block in range(9) for n in _block(block, last))][: len(names)]
    side = {32: 16, 64: 16, 256: 32}[size] // (1 if index < 2 else 2)
    assert tap.shape[2:] == (side, side)
    torch.testing.assert_close(tap, outputs[last])
    calls.seen.clear()
    discriminator(x)
    # before the skip is added; a whole block scales its main branch by sqrt(1/2) at once
    scale = 2**-0.5 if last.endswith("conv2") else 1.0
    torch.testing.assert_close(scale * tap, dict(calls.seen)[last])


def _block(number: int, last: str) -> list[str]:
    names = [f"blocks.{number}.{part}" for part in ("conv1", "conv2", "skip")]
    return names[: names.index(last) + 1] if last in names else names


@pytest.mark.parametrize("size", [128, 256])
def test_the_published_taps_are_of_32_and_16_px_at_any_size(size: int):
    """As the authors' forward pass collects them: 3x3 convolutions' outputs of those sides, in order."""
    config = StyleGAN2Config(image_size=size, channel_base=size * 4, max_channels=8, latent_dim=8, mapping_layers=1)
    torch.manual_seed(0)
    discriminator, x = StyleGAN2Discriminator(config), torch.randn(1, 3, size, size)
    collected, h = [], discriminator.from_rgb(x.contiguous(memory_format=torch.channels_last))
    for block in discriminator.blocks:
        first = block.conv1(h)
        second = block.conv2(first)
        collected += [map_ for map_ in (first, second) if map_.shape[-1] in (32, 16)]
        h = block(h)
    assert len(collected) >= 4
    for index in range(4):
        tap = discriminator.tap(x, index, 32)
        torch.testing.assert_close(tap, collected[index])
        assert PatchHeads(config, tap_size=32)(discriminator, x, index).shape == (1, 1, *tap.shape[2:])
    assert discriminator.tap(x, 0).shape[-1] == size // 8


@pytest.mark.parametrize("asked", [8, 24, 64])
def test_taps_that_are_not_there_are_refused(asked: int):
    with pytest.raises(InputError, match=rf"tap_size is {asked}: at 64 px choose a power of two from 16 to 32"):
        PatchHeads(StyleGAN2Config(image_size=64, channel_base=512, max_channels=8), tap_size=asked)
