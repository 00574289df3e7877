"""Public upsamplers as stages: the official network and its whole chain, on the same recorded noise."""

import math
from pathlib import Path

import pytest
import tiny
import torch
from official_code import official
from tiny_stages import small
from torch import nn

from tenshot.checkpoints import UNET
from tenshot.diffusion import Augmentation, Blur, DiffusionConfig, LowResNoise
from tenshot.distributed.seeding import SeededNoise
from tenshot.lightning_modules import Sampler, SuperResolution
from tenshot.models import UNet, UNetConfig

OPTIONS = {
    "image_size": 32, "in_channels": 3, "model_channels": 32, "out_channels": 6, "num_res_blocks": 1,
    "attention_resolutions": (2, 4), "channel_mult": (1, 2, 3), "num_heads": 2, "use_scale_shift_norm": True,
    "resblock_updown": True, "num_classes": 7,
}  # fmt: skip
OURS = UNetConfig(
    image_size=32, channels=32, channel_mult=(1, 2, 3), num_res_blocks=1, attention_resolutions=(16, 8), num_heads=2,
    head_channels=None, num_classes=7,
)  # fmt: skip
CORRUPTED = Augmentation(LowResNoise(100, s_min=0), Blur())


def saved(path: Path, network: nn.Module) -> str:
    """Random weights, since fresh networks output 0, as the official code saves them."""
    generator = torch.Generator().manual_seed(0)
    for parameter in network.parameters():
        fan_in = max(1, parameter[0].numel()) if parameter.dim() > 1 else 16
        parameter.data = torch.randn(parameter.shape, generator=generator) / math.sqrt(fan_in)
    torch.save(network.eval().state_dict(), path)
    return str(path)


def test_a_stage_from_official_weights_is_the_official_one_with_our_corruption_on_top(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    theirs = official("GUIDED_DIFFUSION", "guided_diffusion.unet").SuperResModel(**OPTIONS)
    diffusion = official("GUIDED_DIFFUSION", "guided_diffusion.script_util").create_gaussian_diffusion(
        steps=1000, learn_sigma=True, noise_schedule="linear", timestep_respacing="10"
    )
    module = SuperResolution(
        unet=OURS, diffusion=DiffusionConfig(), low_res_size=8, augmentation=CORRUPTED, sampler=Sampler("ddpm", "10"),
        init_from=saved(tmp_path / "theirs.pt", theirs),
    )  # fmt: skip
    module.configure_model()
    assert module.unet.s_embedding is not None
    z, seeds, labels = small(4), torch.arange(4), torch.tensor([0, 3, 6, 1])
    t = torch.tensor([0, 40, 500, 999])
    x = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        ours = module.unet.eval()(x, t, label=labels, low_res=z, s=torch.tensor([0, 5, 50, 100]))
        expected = theirs(x, t, low_res=z, y=labels)
    assert (ours - expected).abs().max() < 1e-5 * expected.abs().max()

    noise = SeededNoise(seeds, torch.device("cpu"))
    start = noise.normal(3, 32, 32)
    monkeypatch.setattr(torch, "randn_like", noise.normal_like)
    chain = diffusion.p_sample_loop(
        theirs, start.shape, noise=start, device="cpu", model_kwargs={"low_res": z, "y": labels}
    )
    drawn = module.sample(seeds, {"low_res": z, "label": labels})
    assert chain.std() > 0.1
    assert (drawn - chain.clamp(-1, 1)).abs().max() < 1e-4


PUBLIC = {
    "64_256_upsampler": (256, 64, 4, None),
    "128_512_upsampler": (512, 128, None, 64),
}


@pytest.mark.parametrize("name", PUBLIC)
def test_public_upsamplers_are_stages_of_their_sizes(name: str):
    """By keys and shapes of the real files, without memory for their weights."""
    image_size, low_res_size, heads, head_channels = PUBLIC[name]
    side = (32, 16) if image_size == 512 else (32, 16, 8)
    config = UNetConfig(
        image_size=image_size, channels=192, channel_mult=(1, 1, 2, 2, 4, 4), num_res_blocks=2, num_classes=1000,
        attention_resolutions=side, num_heads=heads or 4, head_channels=head_channels, low_res_channels=3,
    )  # fmt: skip
    with torch.device("meta"):
        state = tiny.public_state(UNet(config).state_dict())
    trained = UNET.public(f"{name}.pt", state, "ema", {"low_res_timestep": False})
    assert trained.method == "SuperResolution"
    assert trained.config == config
    assert dict(trained.stage) == {"low_res_size": low_res_size, "downsample": "area"}
