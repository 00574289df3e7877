"""The U-Net: what it refuses, what it must not change, and its attention against a naive one."""

import math

import pytest
import torch
from torch import Tensor, nn

from tenshot.errors import InputError
from tenshot.models import UNet, UNetClassifier, UNetConfig
from tenshot.models.blocks import GroupNorm

SMALL = UNetConfig(
    image_size=16, channels=32, channel_mult=(1, 2), num_res_blocks=1, attention_resolutions=(8,), head_channels=32
)


def configured(**changes: object) -> UNetConfig:
    fields = {name: getattr(SMALL, name) for name in SMALL.__dataclass_fields__}
    return UNetConfig(**(fields | changes))


def awake(config: UNetConfig = SMALL) -> UNet:
    """A network whose zeroed layers have values, so that every part of it shows in its output."""
    torch.manual_seed(1)
    network = UNet(config)
    for parameter in network.parameters():
        if parameter.dim() > 1:
            nn.init.kaiming_uniform_(parameter, a=math.sqrt(5))
    return network


def inputs(batch: int = 2, side: int = 16) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(2)
    return torch.randn(batch, 3, side, side, generator=generator), torch.tensor([3, 700])[:batch]


# What it outputs


def test_fresh_network_outputs_zero_and_an_awake_one_does_not():
    x, t = inputs()
    out = UNet(SMALL)(x, t)
    assert out.shape == (2, 6, 16, 16)
    assert not out.any()
    assert awake()(x, t).abs().mean() > 1e-3


def test_depends_on_time_and_class_but_not_on_its_neighbours():
    network = awake(configured(num_classes=5)).eval()
    x, t = inputs()
    y = torch.tensor([0, 4])
    with torch.no_grad():
        both = network(x, t, y)
        alone = network(x[:1], t[:1], y[:1])
        later, other = network(x[:1], t[:1] + 200, y[:1]), network(x[:1], t[:1], y[1:])
    torch.testing.assert_close(both[:1], alone, atol=1e-5, rtol=1e-4)
    assert not torch.allclose(alone, later, atol=1e-3)
    assert not torch.allclose(alone, other, atol=1e-3)


@pytest.mark.parametrize("shape", [(16, 16), (32, 8), (2, 6)])
def test_any_size_that_can_be_halved_passes(shape):
    x = torch.randn(1, 3, *shape)
    assert UNet(SMALL)(x, torch.tensor([5])).shape == (1, 6, *shape)


def test_result_has_the_dtype_of_the_images_under_autocast():
    x, t = inputs()
    network = awake().eval()
    with torch.no_grad():
        exact = network(x, t)
        with torch.autocast("cpu", torch.bfloat16):
            rough = network(x, t)
    assert rough.dtype == torch.float32
    assert 0 < (rough - exact).abs().max() < 0.1 * exact.abs().max()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("change", [{}, {"resample": "conv", "scale_shift": False}, {"dropout": 0.5, "num_classes": 3}])
def test_weights_rounded_for_autocast_change_no_bit(dtype: torch.dtype, change: dict[str, object]):
    network, (x, t) = awake(configured(**change)), inputs()
    labels = torch.tensor([0, 2]) if change.get("num_classes") else None

    def seen() -> Tensor:
        torch.manual_seed(0)
        with torch.no_grad(), torch.autocast("cpu", dtype):
            return network(x, t, labels)

    before, size = seen(), sum(weight.nbytes for weight in network.parameters())
    network.round_for_autocast(dtype)
    assert torch.equal(seen(), before)
    assert sum(weight.nbytes for weight in network.parameters()) < 0.65 * size
    assert {part.weight.dtype for part in network.modules() if isinstance(part, nn.GroupNorm)} == {torch.float32}


@pytest.mark.parametrize("size", [8, 4])
def test_low_resolution_condition_is_enlarged_and_used(size):
    network = awake(configured(low_res_channels=3)).eval()
    x, t = inputs()
    low = torch.randn(2, 3, size, size)
    with torch.no_grad():
        given = network(x, t, low_res=low)
        enlarged = nn.functional.interpolate(low, (16, 16), mode="bilinear", align_corners=False)
        torch.testing.assert_close(network(x, t, low_res=enlarged), given)
        assert not torch.allclose(network(x, t, low_res=-low), given, atol=1e-3)


# Memory


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_recomputed_blocks_give_the_same_gradients_and_keep_less(dropout):
    x, t = inputs()
    gradients, kept = [], []
    for checkpoint_blocks in (False, True):
        network = awake(configured(dropout=dropout, checkpoint_blocks=checkpoint_blocks))
        sizes: dict[int, int] = {}

        def note(tensor: Tensor, sizes: dict[int, int] = sizes) -> Tensor:
            sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        torch.manual_seed(3)  # of the dropout masks
        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            loss = network(x, t).square().mean()
        own = {parameter.untyped_storage().data_ptr() for parameter in network.parameters()}
        kept.append(sum(size for pointer, size in sizes.items() if pointer not in own))
        loss.backward()
        gradients.append([parameter.grad for parameter in network.parameters()])
    assert kept[1] < 0.6 * kept[0]
    for plain, recomputed in zip(*gradients, strict=True):
        torch.testing.assert_close(recomputed, plain)


def test_dropout_acts_in_training_only():
    network = awake(configured(dropout=0.5))
    x, t = inputs()
    with torch.no_grad():
        assert not torch.allclose(network(x, t), network(x, t), atol=1e-4)
        network.eval()
        assert torch.equal(network(x, t), network(x, t))


def test_fused_optimizer_moves_the_weights_as_the_plain_one_does():
    # on CPUs it pairs weights and gradients by their order in memory, unchecked: both must be channels_last
    x, t = inputs()
    networks = [awake(), awake()]
    for network, fused in zip(networks, (True, False), strict=True):
        optimizer = torch.optim.AdamW(network.parameters(), lr=1e-2, eps=1e-2, fused=fused)
        for _ in range(2):
            optimizer.zero_grad()
            network(x, t).square().mean().backward()
            optimizer.step()
    for (name, moved), plain in zip(networks[0].named_parameters(), networks[1].parameters(), strict=True):
        torch.testing.assert_close(moved, plain, atol=1e-5, rtol=1e-4, msg=name)


# Attention


@pytest.mark.parametrize(
    ("options", "heads"), [({"head_channels": 16}, 4), ({"head_channels": None, "num_heads": 2}, 2)]
)
def test_heads_follow_from_their_width_or_their_number(options, heads):
    assert configured(**options).heads(64) == heads


def test_attention_sits_on_the_levels_of_its_resolutions():
    network = UNet(configured(channel_mult=(1, 1, 2), attention_resolutions=(16, 4), num_res_blocks=1))
    sides = [stage.attention is not None for stage in network.encoder.stages]
    assert sides == [True, False, False, False, True]  # 16 px, down, 8 px, down, 4 px
    assert [stage.attention is not None for stage in network.decoder] == [True, True, False, False, True, True]


def test_groups_of_one_channel_lose_the_means_of_channels_and_wider_ones_do_not():
    x, shift = torch.randn(2, 32, 8, 8), torch.randn(2, 32, 1, 1)
    torch.testing.assert_close(GroupNorm(32, 32)(x + shift), GroupNorm(32, 32)(x), atol=1e-5, rtol=0)
    wide = GroupNorm(32, 8)
    assert (wide(x + shift) - wide(x)).mean((2, 3)).abs().max() > 0.1


@pytest.mark.parametrize("kind", [UNet, UNetClassifier])
def test_every_norm_has_the_groups_of_the_configuration(kind: type[UNet] | type[UNetClassifier]):
    network = kind(configured(channels=16, head_channels=16, norm_groups=4, num_res_blocks=2))
    assert {part.num_groups for part in network.modules() if isinstance(part, nn.GroupNorm)} == {4}
    x, t = inputs()
    assert network(x, t).shape[0] == 2


# What it refuses


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"image_size": 15}, ["image_size 15", "multiple of 2"]),
        ({"channel_mult": ()}, ["channel_mult"]),
        ({"channels": 48}, ["48", "multiple of unet.norm_groups 32"]),
        ({"channels": 44, "norm_groups": 8}, ["44", "multiple of unet.norm_groups 8"]),
        ({"norm_groups": 0}, ["norm_groups"]),
        ({"channel_mult": (0, 1)}, ["channel_mult 0"]),
        ({"head_channels": 48}, ["64 channels", "48", "head_channels"]),
        ({"head_channels": None, "num_heads": 5}, ["num_heads 5"]),
    ],
)
def test_impossible_configurations_are_one_line(changes, words):
    with pytest.raises(InputError) as error:
        configured(**changes)
    message = str(error.value)
    assert "\n" not in message
    assert all(word in message for word in words), message


def test_s_without_a_low_resolution_image_is_one_line():
    with pytest.raises(InputError, match=r"unet\.low_res_timestep is of a low-resolution condition"):
        configured(low_res_timestep=True)


def test_a_size_that_cannot_be_halved_is_one_line():
    with pytest.raises(InputError, match=r"\(16, 15\).*multiples of 2"):
        UNet(SMALL)(torch.randn(1, 3, 16, 15), torch.tensor([0]))


@pytest.mark.parametrize(
    ("changes", "given", "words"),
    [
        ({"num_classes": 4}, {}, ["num_classes=4", "without label"]),
        ({}, {"label": torch.tensor([1])}, ["num_classes=None", "with label"]),
        ({"low_res_channels": 3}, {}, ["low_res_channels=3", "without low_res"]),
        ({}, {"low_res": torch.zeros(1, 3, 8, 8)}, ["low_res_channels=0", "with low_res"]),
        (
            {"low_res_channels": 3, "low_res_timestep": True},
            {"low_res": torch.zeros(1, 3, 8, 8)},
            ["low_res_timestep=True", "with low_res, without s"],
        ),
    ],
)
def test_a_missing_or_unwanted_condition_is_one_line(changes, given, words):
    with pytest.raises(InputError) as error:
        UNet(configured(**changes))(torch.zeros(1, 3, 16, 16), torch.tensor([0]), **given)
    assert "\n" not in str(error.value)
    assert all(word in str(error.value) for word in words), str(error.value)


def test_lists_of_a_configuration_file_become_tuples():
    assert configured(channel_mult=[1, 2], attention_resolutions=[8]) == SMALL


def test_compiled_it_is_one_graph_without_out_arguments():
    # PyTorch 2.11 ends a graph at an operation that writes to an out= in channels_last
    graphs = []

    def keep(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> torch.fx.GraphModule:
        graphs.append(graph)
        return graph

    torch.manual_seed(0)
    net = awake(configured(attention_resolutions=())).train().to(memory_format=torch.channels_last)
    x, t = torch.randn(2, 3, 16, 16).to(memory_format=torch.channels_last), torch.tensor([1, 7])
    with torch.autocast("cpu", torch.bfloat16):
        expected = net(x, t)
        found = torch.compile(net, backend=keep, fullgraph=True)(x, t)
    torch.testing.assert_close(found.float(), expected.float(), rtol=0, atol=0.05 * float(expected.float().std()))
    assert len(graphs) == 1
    parts = [part for part in graphs[0].modules() if isinstance(part, torch.fx.GraphModule)]
    assert not [node for part in parts for node in part.graph.nodes if "out" in node.kwargs]
    found.float().square().mean().backward()
    assert all(weight.grad is not None for weight in net.parameters())
