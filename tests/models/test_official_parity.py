"""Our U-Net and classifier against the official networks, weights carried over by the importer."""

import math

import pytest
import torch
from official_code import official
from torch import Tensor, nn

from tenshot.models.pretrained import load_adm, load_adm_classifier


@pytest.fixture(autouse=True)
def _same_images() -> None:
    """For one draw in many, rounding takes an error beyond what is allowed."""
    torch.manual_seed(0)


def randomise(network: nn.Module, seed: int = 0) -> dict[str, Tensor]:
    """Give every parameter a random value: fresh networks output 0 and would agree vacuously."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in network.parameters():
        fan_in = max(1, parameter[0].numel()) if parameter.dim() > 1 else 16
        parameter.data = torch.randn(parameter.shape, generator=generator) / math.sqrt(fan_in)
    network.eval()
    return network.state_dict()


def assert_close(ours: Tensor, theirs: Tensor, within: float = 1e-5) -> None:
    assert theirs.abs().max() > 1e-2
    error = (ours - theirs).abs().max() / theirs.abs().max()
    assert error < within, f"relative error {error:.2e}"


BASE = {
    "image_size": 32, "in_channels": 3, "model_channels": 32, "out_channels": 6, "num_res_blocks": 1,
    "attention_resolutions": (2, 4), "channel_mult": (1, 2, 3), "num_heads": 2, "use_scale_shift_norm": True,
}  # fmt: skip
GUIDED = {
    "adm": {"resblock_updown": True, "num_head_channels": 16},
    "adm, new order": {"resblock_updown": True, "num_head_channels": 16, "use_new_attention_order": True},
    "adm, classes": {"resblock_updown": True, "num_classes": 7, "num_res_blocks": 2},
    "half-width first level": {"resblock_updown": True, "model_channels": 64, "channel_mult": (0.5, 1, 2)},
    "strided convolutions": {"channel_mult": (1, 1, 2, 2), "attention_resolutions": (4,)},
    "plain pooling": {"conv_resample": False},
    "no scale-shift, learned variance off": {"use_scale_shift_norm": False, "out_channels": 3, "num_heads": 1},
    "one level": {"channel_mult": (2,), "attention_resolutions": (1,)},
}


@pytest.mark.parametrize("name", GUIDED)
def test_unet_outputs_and_gradients(name):
    unet = official("GUIDED_DIFFUSION", "guided_diffusion.unet")
    options = BASE | GUIDED[name]
    theirs = unet.UNetModel(**options)
    state = randomise(theirs)
    heads = options.get("num_head_channels")
    ours = load_adm(
        state,
        image_size=32,
        num_heads=options["num_heads"],
        head_channels=heads,
        attention_order="new" if options.get("use_new_attention_order") else "legacy",
    ).eval()
    x, t = torch.randn(2, 3, 32, 32), torch.tensor([17, 803])
    y = torch.tensor([0, 5]) if "num_classes" in options else None
    with torch.no_grad():
        assert_close(ours(x, t, y), theirs(x, t, y))
    # training path: the joint norm-activation-convolution node
    ours.train()
    a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
    ours(a, t, y).square().sum().backward()
    theirs(b, t, y).square().sum().backward()
    assert_close(a.grad, b.grad, within=1e-4)
    assert_close(ours.encoder.stem.weight.grad, theirs.input_blocks[0][0].weight.grad, within=1e-4)
    assert_close(ours.time_embedding.fc1.weight.grad, theirs.time_embed[0].weight.grad, within=1e-4)


@pytest.mark.parametrize(
    ("repository", "package"), [("GUIDED_DIFFUSION", "guided"), ("IMPROVED_DIFFUSION", "improved")]
)
def test_super_resolution(repository, package):
    unet = official(repository, f"{package}_diffusion.unet")
    options = {k: v for k, v in BASE.items() if k != "image_size" or package == "guided"}
    theirs = unet.SuperResModel(**options)
    ours = load_adm(randomise(theirs), image_size=32, num_heads=2, attention_order="legacy").eval()
    x, low, t = torch.randn(2, 3, 32, 32), torch.randn(2, 3, 8, 8), torch.tensor([4, 999])
    with torch.no_grad():
        assert_close(ours(x, t, low_res=low), theirs(x, t, low_res=low))


def test_improved_diffusion_unet():
    unet = official("IMPROVED_DIFFUSION", "improved_diffusion.unet")
    options = {k: v for k, v in BASE.items() if k != "image_size"}
    theirs = unet.UNetModel(**options, num_classes=4)
    ours = load_adm(randomise(theirs), image_size=32, num_heads=2, attention_order="legacy").eval()
    x, t, y = torch.randn(2, 3, 32, 32), torch.tensor([0.25, 731.5]), torch.tensor([3, 1])
    with torch.no_grad():
        assert_close(ours(x, t, y), theirs(x, t, y))


@pytest.mark.parametrize("pool", ["attention", "adaptive"])
def test_classifier(pool):
    unet = official("GUIDED_DIFFUSION", "guided_diffusion.unet")
    theirs = unet.EncoderUNetModel(
        image_size=32, in_channels=3, model_channels=64, out_channels=11, num_res_blocks=1, channel_mult=(1, 1, 2),
        attention_resolutions=(2, 4), num_head_channels=64, use_scale_shift_norm=True, resblock_updown=True, pool=pool,
    )  # fmt: skip
    ours = load_adm_classifier(randomise(theirs), num_res_blocks=1, image_size=32).eval()
    x, t = torch.randn(2, 3, 32, 32), torch.tensor([3, 500])
    with torch.no_grad():
        assert_close(ours(x, t), theirs(x, t))


@pytest.mark.parametrize(
    "name",
    ["64x64_diffusion", "128x128_diffusion", "256x256_diffusion", "256x256_diffusion_uncond", "512x512_diffusion"],
)
def test_public_layouts_have_the_official_keys_and_shapes(name):
    """The table's flags, built by the official script on the meta device, load without an override."""
    script = official("GUIDED_DIFFUSION", "guided_diffusion.script_util")
    size = int(name.split("x")[0])
    flags = script.model_and_diffusion_defaults() | {
        "image_size": size, "num_channels": 192 if size == 64 else 256, "num_res_blocks": 3 if size == 64 else 2,
        "num_head_channels": -1 if size == 128 else 64, "num_heads": 4, "attention_resolutions": "32,16,8",
        "class_cond": "uncond" not in name, "learn_sigma": True, "resblock_updown": True, "use_scale_shift_norm": True,
        "use_new_attention_order": size == 64,
    }  # fmt: skip
    wanted = script.create_model.__code__.co_varnames[: script.create_model.__code__.co_argcount]
    with torch.device("meta"):
        theirs = script.create_model(**{k: v for k, v in flags.items() if k in wanted})
        ours = load_adm(theirs.state_dict())
    assert ours.config.image_size == size
    assert ours.config.heads(512) == (4 if size == 128 else 8)
    assert ours.config.attention_order == ("new" if size == 64 else "legacy")
    assert sum(p.numel() for p in ours.parameters()) == sum(p.numel() for p in theirs.parameters())
