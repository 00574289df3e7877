"""StyleGAN2's networks: styles, noise, statistics over the batch, CDC's taps, precision, complaints."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tenshot.errors import InputError
from tenshot.models import PatchHeads, StyleGAN2Config, StyleGAN2Discriminator, StyleGAN2Generator
from tenshot.models.stylegan2.discriminator import minibatch_deviation

SMALL = StyleGAN2Config(image_size=32, channel_base=256, max_channels=12, latent_dim=6, mapping_layers=2)


def randomised(network, seed=0):
    random = torch.Generator().manual_seed(seed)
    for parameter in network.parameters():
        parameter.data += 0.3 * torch.randn(parameter.shape, generator=random)
    return network.requires_grad_(False)


@pytest.fixture(scope="module")
def generator():
    return randomised(StyleGAN2Generator(SMALL))


@pytest.fixture(scope="module")
def discriminator():
    return randomised(StyleGAN2Discriminator(SMALL))


def latents(count=4):
    return torch.randn(count, SMALL.latent_dim, generator=torch.Generator().manual_seed(1))


def random_images(count=4):
    return torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(2))


def test_shapes(generator, discriminator):
    styles = generator.broadcast(generator.mapping(latents()))
    assert styles.shape == (4, SMALL.num_styles, 6)
    image, features = generator.synthesis(styles, features=True)
    assert image.shape == (4, 3, 32, 32)
    assert [tuple(f.shape) for f in features] == [
        (4, SMALL.width(side), side, side) for _, side, _ in generator.noise_shapes
    ]
    assert [side for _, side, _ in generator.noise_shapes] == [4, 8, 8, 16, 16, 32, 32]
    assert len(features) == SMALL.num_layers
    assert discriminator(image).shape == (4,)


def test_a_style_slot_reaches_its_layer_and_those_after_it(generator):
    styles = generator.broadcast(generator.mapping(latents(1))).clone()
    image, features = generator.synthesis(styles, "fixed", features=True)
    for slot in range(SMALL.num_styles):
        changed = styles.clone()
        changed[:, slot] += 1
        other, others = generator.synthesis(changed, "fixed", features=True)
        same = [torch.equal(a, b) for a, b in zip(features, others, strict=True)]
        assert same == [layer < slot for layer in range(SMALL.num_layers)]
        assert not torch.equal(image, other)  # the last slot is the last RGB convolution's alone


def test_mixing_takes_the_first_slots_from_the_first(generator):
    w1, w2 = generator.mapping(latents(6)).chunk(2)
    mixed = generator.mix(w1, w2, 3)
    for slot in range(SMALL.num_styles):
        assert torch.equal(mixed[:, slot], w1 if slot < 3 else w2)


@pytest.mark.parametrize("psi", [0.0, 0.7, 1.0, 1.5])
def test_truncation_moves_towards_the_average_beyond_one_too(generator, psi):
    generator.latent_average.copy_(torch.arange(6.0))
    w = generator.mapping(latents())
    torch.testing.assert_close(generator.truncate(w, psi), torch.arange(6.0) + psi * (w - torch.arange(6.0)))


def test_noise(generator):
    styles = generator.broadcast(generator.mapping(latents(2)))
    fresh = [generator.synthesis(styles) for _ in range(2)]
    fixed = generator.synthesis(styles, "fixed")
    assert not torch.equal(*fresh)
    assert torch.equal(fixed, generator.synthesis(styles, "fixed"))
    stored = [layer.noise for layer in generator.layers]
    torch.testing.assert_close(fixed, generator.synthesis(styles, stored))
    zeros = [torch.zeros(1, *shape) for shape in generator.noise_shapes]
    torch.testing.assert_close(generator.synthesis(styles, "none"), generator.synthesis(styles, zeros))
    per_sample = [torch.randn(2, *shape) for shape in generator.noise_shapes]
    both = generator.synthesis(styles, per_sample)
    torch.testing.assert_close(both[1:], generator.synthesis(styles[1:], [noise[1:] for noise in per_sample]))
    torch.manual_seed(5)
    maps = [torch.randn(2, *shape) for shape in generator.noise_shapes]
    torch.manual_seed(5)
    torch.testing.assert_close(generator.synthesis(styles), generator.synthesis(styles, maps))


def test_one_noise_map_too_few(generator):
    styles = generator.broadcast(latents(1))
    maps = [torch.zeros(1, *shape) for shape in generator.noise_shapes[:-1]]
    with pytest.raises(ValueError, match="shorter"):
        generator.synthesis(styles, maps)


@pytest.mark.parametrize(("batch", "group"), [(1, 1), (3, 3), (4, 4), (8, 4)])
def test_deviation_over_strided_groups(batch, group):
    x = torch.randn(batch, 3, 4, 4)
    maps = minibatch_deviation(x, group)
    assert maps.shape == (batch, 1, 4, 4)
    count = batch // group
    for number in range(batch):
        members = x.numpy()[number % count :: count]
        assert len(members) == group
        expected = np.sqrt(members.var(0) + 1e-8).mean()
        np.testing.assert_allclose(maps[number].numpy(), expected, rtol=1e-5)


def test_logits_depend_on_the_batch_in_groups_of_four(discriminator):
    x = random_images(8)
    logits = discriminator(x)
    alone = torch.cat([discriminator(x[start::2]) for start in range(2)])
    torch.testing.assert_close(logits, alone.view(2, 4).t().flatten())
    assert not torch.allclose(logits[:4], discriminator(x[:4]))


@pytest.mark.parametrize("batch", [2, 4])
def test_batches_are_judged_as_if_each_came_alone(discriminator, batch):
    x = random_images(2 * batch)
    alone = torch.cat([discriminator(part) for part in x.split(batch)])
    torch.testing.assert_close(discriminator(x, batches=2), alone)
    assert not torch.allclose(discriminator(x), alone)


def test_logits_are_the_head_of_the_penultimate(discriminator):
    hidden = discriminator.penultimate(random_images())
    assert hidden.shape == (4, SMALL.width(4))
    assert torch.equal(discriminator.head(hidden), discriminator(random_images()))
    assert hidden.min() < 0 < hidden.max()  # activated, by a leaky ReLU: few, small negative numbers
    assert hidden.max() > 2 * -hidden.min()


def test_patch_heads_see_only_their_neighbourhood(discriminator):
    heads = randomised(PatchHeads(SMALL))
    for index in range(4):
        tap = discriminator.tap(random_images(1), index)
        reads = SimpleNamespace(tap=lambda images, at, size, tap=tap: tap)
        logits = heads(reads, None, index)
        assert logits.shape == (1, 1, *tap.shape[2:])
        tap[0, :, 0, 0] += 100
        changed = (heads(reads, None, index) != logits)[0, 0]
        assert changed[:2, :2].any()
        assert not changed[2:].any()
        assert not changed[:, 2:].any()


def dtypes_of(network, run):
    seen = {}
    for name, module in network.named_modules():
        if name:
            module.register_forward_hook(lambda _m, _i, out, name=name: seen.__setitem__(name, out.dtype))
    with torch.autocast("cpu", torch.bfloat16):
        out = run(network)
    return seen, out


@pytest.mark.parametrize("reduced", [0, 1, 2, 4])
def test_autocast_reduces_the_highest_resolutions_alone_and_never_4_px(reduced):
    config = StyleGAN2Config(16, channel_base=64, max_channels=4, latent_dim=4, mapping_layers=1)
    config = StyleGAN2Config(**(vars(config) | {"reduced_resolutions": reduced}))
    generator = randomised(StyleGAN2Generator(config))
    low = {4: False, 8: reduced >= 2, 16: reduced >= 1}
    seen, image = dtypes_of(generator, lambda g: g(torch.randn(2, 4)))
    assert image.dtype == torch.float32
    for layer, side in enumerate([4, 8, 8, 16, 16]):
        assert seen[f"layers.{layer}"] == (torch.bfloat16 if low[side] else torch.float32), layer
        assert seen[f"layers.{layer}.style"] == torch.float32
    assert {seen[f"to_rgb.{level}"] for level in range(3)} == {torch.float32}
    assert seen["mapper.0"] == torch.float32
    discriminator = randomised(StyleGAN2Discriminator(config))
    seen, logits = dtypes_of(discriminator, lambda d: d(image))
    assert logits.dtype == torch.float32
    for block, side in enumerate([16, 8]):
        assert seen[f"blocks.{block}"] == (torch.bfloat16 if low[side] else torch.float32), block
    assert seen["final_conv"] == seen["final_linear"] == torch.float32
    with torch.autocast("cpu", torch.bfloat16):
        assert discriminator.penultimate(image).dtype == torch.float32
    torch.testing.assert_close(logits, discriminator(image), rtol=0.1, atol=0.3)


def test_double_precision_and_the_second_derivatives_of_whole_networks():
    """R1 and path length differentiate the gradients of these."""
    config = StyleGAN2Config(8, channel_base=16, max_channels=2, latent_dim=2, mapping_layers=1)
    generator = randomised(StyleGAN2Generator(config)).double()
    discriminator = randomised(StyleGAN2Discriminator(config)).double()
    z = torch.randn(2, 2, dtype=torch.float64, requires_grad=True)

    def play(z):
        return discriminator(generator.synthesis(generator.broadcast(generator.mapping(z)), "fixed"))

    assert torch.autograd.gradcheck(play, z)
    assert torch.autograd.gradgradcheck(play, z)


def test_complaints(discriminator):
    with pytest.raises(InputError, match=r"^--data\.batch_size gives the discriminator 6 images.*multiple of 4$"):
        discriminator(random_images(6))
    assert discriminator(random_images(3)).shape == (3,)
    with pytest.raises(InputError, match=r"^stylegan2\.image_size is 32, but the images are \(3, 16, 16\)"):
        discriminator(torch.zeros(4, 3, 16, 16))
    tiny = StyleGAN2Config(16, channel_base=64, max_channels=4, latent_dim=4)
    with pytest.raises(InputError, match=r"^stylegan2\.image_size is 16: patch heads need at least 32 px"):
        StyleGAN2Discriminator(tiny).tap(torch.zeros(1, 3, 16, 16), 0)
    with pytest.raises(InputError, match="at least 32 px"):
        PatchHeads(tiny)
    for size in (0, 4, 48):
        with pytest.raises(InputError, match=rf"^stylegan2\.image_size is {size}: choose a power of two from 8 on$"):
            StyleGAN2Config(image_size=size)


def test_state_survives_a_copy_and_filters_are_not_in_it(generator):
    state = generator.state_dict()
    assert not [name for name in state if "taps" in name or "filter" in name]
    other = StyleGAN2Generator(SMALL)
    other.load_state_dict(state)
    styles = generator.broadcast(latents(1))
    assert torch.equal(other.synthesis(styles, "fixed"), generator.synthesis(styles, "fixed"))


def test_drawing_and_judging_compile_in_one_graph():
    config = replace(SMALL, image_size=8)  # a block of each kind
    generator, discriminator = (
        randomised(kind(config)).eval() for kind in (StyleGAN2Generator, StyleGAN2Discriminator)
    )
    draw, judge = (
        torch.compile(function, backend="aot_eager", fullgraph=True)
        for function in (generator.synthesis, discriminator)
    )
    styles = generator.broadcast(latents(4))
    with torch.no_grad():
        image = generator.synthesis(styles, noise="fixed")
        torch.testing.assert_close(draw(styles, noise="fixed"), image)
        torch.testing.assert_close(judge(image), discriminator(image))
