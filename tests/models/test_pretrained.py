"""Public checkpoints: their key grammar, the table of what shapes do not tell, and files that must be refused."""

import re

import pytest
import tiny
import torch
from torch import Tensor

from tenshot.models import UNet, UNetClassifier, UNetConfig
from tenshot.models.pretrained import load_adm, load_adm_classifier, read_adm

# The public grammar, written from its description: our modules -> theirs.

BLOCK = {
    "norm1": "in_layers.0", "conv1": "in_layers.2", "embed": "emb_layers.1", "norm2": "out_layers.0",
    "conv2": "out_layers.3", "skip": "skip_connection", "conv": "op",
}  # fmt: skip
ATTENTION = {"norm": "norm", "qkv": "qkv", "proj": "proj_out"}
TOP = {
    "time_embedding.fc1": "time_embed.0", "time_embedding.fc2": "time_embed.2", "class_embedding": "label_emb",
    "encoder.stem": "input_blocks.0.0", "norm": "out.0", "conv": "out.2", "pool.qkv": "out.2.qkv_proj",
    "pool.proj": "out.2.c_proj", "pool": "out.3",
}  # fmt: skip


def public_name(name: str, with_attention: set[str]) -> str:
    """Their name for a parameter of ours."""
    if name == "pool.positional_embedding":
        return "out.2.positional_embedding"
    module, leaf = name.rsplit(".", 1)
    if module in TOP:
        return f"{TOP[module]}.{leaf}"
    part, number, kind, layer = re.fullmatch(r"(encoder\.\w+|decoder)\.(\d+)\.(\w+)\.(\w+)", module).groups()
    if part == "encoder.middle":
        slot = 1 if kind == "attention" else 2 * int(number)
        return f"middle_block.{slot}.{ATTENTION[layer] if kind == 'attention' else BLOCK[layer]}.{leaf}"
    place = f"input_blocks.{int(number) + 1}" if part == "encoder.stages" else f"output_blocks.{number}"
    if kind == "block":
        return f"{place}.0.{BLOCK[layer]}.{leaf}"
    if kind == "attention":
        return f"{place}.1.{ATTENTION[layer]}.{leaf}"
    slot = 2 if f"{part}.{number}" in with_attention else 1
    return f"{place}.{slot}.{'conv' if layer == 'conv' else BLOCK[layer]}.{leaf}"


def public_state(network: torch.nn.Module) -> dict[str, Tensor]:
    """Its weights as the public code would have saved them: attention has 1-d convolutions there."""
    own = network.state_dict()
    with_attention = {name.split(".attention.")[0] for name in own if ".attention." in name}
    state = {public_name(name, with_attention): value for name, value in own.items()}
    return {
        name: value[..., 0] if value.dim() == 4 and re.search(r"qkv|proj", name) else value
        for name, value in state.items()
    }


TINY = {
    "image_size": 16, "channels": 32, "channel_mult": (1, 2), "num_res_blocks": 1, "attention_resolutions": (8,),
    "num_heads": 2, "head_channels": None,
}  # fmt: skip
ASKED = {"image_size": 16, "num_heads": 2, "attention_order": "new"}


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"num_classes": 3, "out_channels": 3},
        {"low_res_channels": 3},
        {"scale_shift": False, "resample": "conv"},
        {"resample": "mean", "channel_mult": (1, 1, 2), "attention_resolutions": (16, 8)},
        {"channel_mult": (0.5, 1), "channels": 64, "num_res_blocks": 2},
        {"in_channels": 1, "out_channels": 1, "channel_mult": (1,), "attention_resolutions": (), "num_res_blocks": 2},
    ],
    ids=lambda options: ", ".join(options) or "plain",
)
def test_weights_and_architecture_survive_the_public_grammar(options):
    config = UNetConfig(**(TINY | {"attention_order": "new"} | options))
    network = UNet(config)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter)
    back = load_adm(public_state(network), **ASKED)
    assert back.config == config
    for name, value in network.state_dict().items():
        assert torch.equal(back.state_dict()[name], value), name


# The table of public checkpoints (parameters and keys as counted with the public code)

GUIDED = {"head_channels": 64, "num_heads": 4, "attention_resolutions": (32, 16, 8)}
IMPROVED = {"head_channels": None, "num_heads": 4, "attention_resolutions": (16, 8), "resample": "conv"}
M64, M128, M256, M512 = (1, 2, 3, 4), (1, 1, 2, 3, 4), (1, 1, 2, 2, 4, 4), (0.5, 1, 1, 2, 2, 4, 4)


def adm(image_size: int, channels: int, mult: tuple[float, ...], blocks: int = 2, **more: object) -> UNetConfig:
    return UNetConfig(
        image_size=image_size, channels=channels, channel_mult=mult, num_res_blocks=blocks, **(GUIDED | more)
    )


def improved(image_size: int, channels: int, mult: tuple[float, ...], blocks: int = 3, **more: object) -> UNetConfig:
    return adm(image_size, channels, mult, blocks, **(IMPROVED | more))


LINEAR, COSINE = ("linear", 1000, False), ("cosine", 1000, False)
LSUN = adm(256, 256, M256, dropout=0.1)
IMAGENET64, CIFAR = improved(64, 128, M64), improved(32, 128, (1, 2, 2, 2), dropout=0.3)
P2 = adm(256, 128, M256, 1, attention_resolutions=(16,))
P2_FILES = (
    "ffhq_10m", "afhq_dog_4m", "ffhq_baseline", "ffhq_p2", "celebahq_p2", "cub_p2", "afhq_p2", "afhqdog_p2",
    "flower_p2", "metface_p2",
)  # fmt: skip
LSUN_SMALL = improved(256, 128, M256, 2, attention_resolutions=(16,), num_heads=1, scale_shift=False)
CLASSES = {"num_classes": 1000}
PUBLIC: dict[str, tuple[UNetConfig, tuple[str, int, bool], int, int]] = {
    "64x64_diffusion": (
        adm(64, 192, M64, 3, attention_order="new", dropout=0.1, **CLASSES), COSINE, 295_904_454, 541),
    "128x128_diffusion": (adm(128, 256, M128, head_channels=None, **CLASSES), LINEAR, 421_529_606, 493),
    "256x256_diffusion": (adm(256, 256, M256, **CLASSES), LINEAR, 553_838_086, 567),
    "256x256_diffusion_uncond": (adm(256, 256, M256), LINEAR, 552_814_086, 566),
    "512x512_diffusion": (adm(512, 256, M512, **CLASSES), LINEAR, 558_997_638, 645),
    "lsun_bedroom": (LSUN, LINEAR, 552_814_086, 566),
    "lsun_cat": (LSUN, LINEAR, 552_814_086, 566),
    "lsun_horse": (LSUN, LINEAR, 552_814_086, 566),
    "ffhq": (LSUN, LINEAR, 552_814_086, 566),
    **dict.fromkeys(P2_FILES, (P2, LINEAR, 93_563_910, 362)),
    "lsun_horse_nodropout": (adm(256, 256, M256), LINEAR, 552_814_086, 566),
    "64_256_upsampler": (
        adm(256, 192, M256, head_channels=None, low_res_channels=3, **CLASSES), LINEAR, 311_795_910, 567),
    "128_512_upsampler": (
        adm(512, 192, M256, attention_resolutions=(32, 16), low_res_channels=3, **CLASSES), LINEAR, 308_835_270, 537),
    "imagenet64_uncond_100M_1500K": (IMAGENET64, ("cosine", 4000, True), 121_063_942, 450),
    "imagenet64_uncond_vlb_100M_1500K": (IMAGENET64, ("cosine", 4000, True), 121_063_942, 450),
    "cifar10_uncond_50M_500K": (CIFAR, ("cosine", 4000, True), 52_546_438, 446),
    "cifar10_uncond_vlb_50M_500K": (CIFAR, ("cosine", 4000, True), 52_546_438, 446),
    "imagenet64_cond_270M_250K": (improved(64, 192, M64, **CLASSES), ("cosine", 4000, False), 273_049_350, 451),
    "upsample_cond_500K": (
        improved(256, 192, M256, 2, low_res_channels=3, **CLASSES), ("linear", 4000, False), 279_792_390, 457),
    "lsun_uncond_100M_1200K_bs128": (LSUN_SMALL, ("linear", 1000, False), 113_676_678, 426),
    "lsun_uncond_100M_2400K_bs64": (LSUN_SMALL, ("linear", 1000, False), 113_676_678, 426),
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLIC)
def test_public_checkpoints_are_recognised(name):
    config, process, parameters, keys = PUBLIC[name]
    with torch.device("meta"):
        state = public_state(UNet(config))
    assert len(state) == keys
    assert sum(value.numel() for value in state.values()) == parameters
    found = read_adm(state, name=f"downloads/{name}.pt")
    assert found.config == config
    assert name in found.public.names
    assert (found.public.schedule, found.public.num_steps, found.public.rescale_timesteps) == process


def test_an_override_wins_over_the_table():
    config = PUBLIC["256x256_diffusion"][0]
    with torch.device("meta"):
        state = public_state(UNet(config))
    assert read_adm(state, dropout=0.2, image_size=128).config.dropout == 0.2


CLASSIFIERS = {
    "64x64_classifier": (64, 4, M64, 65_438_568, 307),
    "128x128_classifier": (128, 2, M128, 42_568_040, 221),
    "256x256_classifier": (256, 2, M256, 54_096_360, 249),
    "512x512_classifier": (512, 2, M512, 54_448_360, 281),
}


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_public_classifiers_are_recognised(name):
    size, blocks, mult, parameters, keys = CLASSIFIERS[name]
    config = adm(size, 128, mult, blocks, out_channels=1000)
    with torch.device("meta"):
        state = public_state(UNetClassifier(config))
        assert len(state) == keys
        assert sum(value.numel() for value in state.values()) == parameters
        found = load_adm_classifier(state).config
    same = ("image_size", "channels", "channel_mult", "num_res_blocks", "head_channels", "attention_order")
    assert {n: getattr(found, n) for n in same} == {n: getattr(config, n) for n in same}
    assert found.out_channels == 1000
    levels = range(len(mult))
    assert [found.attends(level) for level in levels] == [config.attends(level) for level in levels]


@pytest.mark.parametrize("pool", ["attention", "adaptive"])
def test_classifier_weights_survive_the_public_grammar(pool):
    config = UNetConfig(
        image_size=16, channels=64, channel_mult=(1, 2), num_res_blocks=1, attention_resolutions=(8,),
        head_channels=64, out_channels=5,
    )  # fmt: skip
    network = UNetClassifier(config, pool)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter)
    back = load_adm_classifier(public_state(network), num_res_blocks=1, image_size=16)
    assert back.config == config
    for name, value in network.state_dict().items():
        assert torch.equal(back.state_dict()[name], value), name


# What is refused, in one line each


@pytest.fixture
def state() -> dict[str, Tensor]:
    return public_state(UNet(UNetConfig(**TINY)))


def test_shapes_alone_do_not_tell_everything(state):
    tiny.refusal(lambda: load_adm(state), "image_size", "attention_order", "num_heads or head_channels")
    message = tiny.refusal(lambda: load_adm(state, image_size=16, head_channels=32), "attention_order")
    assert "image_size" not in message
    assert "num_heads" not in message


def test_unknown_keys_are_listed(state):
    state |= {"input_blocks.1.0.in_layers.9.weight": torch.zeros(1), "discriminator.weight": torch.zeros(1)}
    tiny.refusal(
        lambda: load_adm(state, **ASKED),
        "2 unknown keys",
        "discriminator.weight",
        "input_blocks.1.0.in_layers.9.weight",
    )


def test_missing_keys_are_listed(state):
    del state["output_blocks.1.0.skip_connection.weight"], state["middle_block.2.emb_layers.1.bias"]
    tiny.refusal(
        lambda: load_adm(state, **ASKED), "2 missing keys", "decoder.1.block.skip.weight", "middle.1.block.embed"
    )


def test_another_architecture_is_listed_by_shapes(state):
    tiny.refusal(
        lambda: load_adm(state, **ASKED, scale_shift=False), "differing keys", "embed.weight (128, 128) for (64, 128)"
    )


def test_a_foreign_network_is_refused():
    tiny.refusal(
        lambda: load_adm({"conv1.weight": torch.zeros(3)}), "not a guided-diffusion", "unknown keys (conv1.weight)"
    )


def test_an_unknown_override_names_the_nearest(state):
    tiny.refusal(lambda: load_adm(state, **ASKED, head_chanels=3), "head_chanels", "head_channels")


def test_a_classifier_of_unknown_depth_asks_for_it():
    network = UNetClassifier(UNetConfig(**(TINY | {"channels": 64, "head_channels": 64, "out_channels": 5})))
    tiny.refusal(lambda: load_adm_classifier(public_state(network)), "num_res_blocks")
