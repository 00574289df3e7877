"""Drawing with GLIDE: the documented way, and against the official code step by step."""

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import glide_files
import torch
from official_code import official
from torch import Tensor

from tenshot.diffusion import ClassifierFree, Denoiser, DiffusionConfig, GaussianDiffusion, sample_ddim, sample_ddpm
from tenshot.models import GlideUNet

UPSAMPLER = {"low_res_channels": 3}


def counted(network: GlideUNet, calls: list[tuple[str, int]], name: str) -> GlideUNet:
    """Note each evaluation, and each text that is encoded, with the number of rows."""
    network.register_forward_hook(lambda _, given, out: calls.append((name, len(out))))
    network.context_encoder.register_forward_hook(lambda _, given, out: calls.append((f"{name} text", len(out[0]))))
    return network


def test_the_documented_way_encodes_once_and_asks_once_a_step(monkeypatch):
    calls: list[tuple[str, int]] = []
    networks = {
        "base": counted(glide_files.glide(), calls, "base"),
        "upsample": counted(glide_files.glide(image_size=32, channel_mult=(1, 2, 2), **UPSAMPLER), calls, "upsample"),
    }
    monkeypatch.setattr("tenshot.models.pretrained.load_glide", lambda path, role: networks[role])
    told = glide_files.condition(networks["base"])
    monkeypatch.setattr("tenshot.models.glide.Tokenizer", lambda path: lambda texts: told)
    (code,) = re.findall(r"```python\n(.*?)```", Path("docs/glide.md").read_text(), flags=re.S)
    scope: dict[str, Any] = {}
    torch.manual_seed(0)
    exec(code.replace('"100"', '"3"').replace('"fast27"', '"2"'), scope)
    assert scope["images"].shape == (2, 3, 32, 32)
    assert scope["images"].isfinite().all()
    assert calls == [
        ("base text", 2), ("base text", 2), *[("base", 4)] * 3, ("upsample text", 2), *[("upsample", 2)] * 2,
    ]  # fmt: skip


def official_network(network: GlideUNet, kind: str) -> Any:
    """The official network with the weights of ours."""
    config = network.config
    theirs = getattr(official("GLIDE_TEXT2IM", "glide_text2im.text2im_model"), kind)(
        text_ctx=5, xf_width=32, xf_layers=2, xf_heads=1, xf_final_ln=True, xf_padding=True,
        tokenizer=SimpleNamespace(n_vocab=9), in_channels=3, model_channels=32, out_channels=6, num_res_blocks=1,
        attention_resolutions=tuple(config.image_size // side for side in config.attention_resolutions),
        channel_mult=config.channel_mult, num_head_channels=32, use_scale_shift_norm=True, resblock_updown=True,
    )  # fmt: skip
    theirs.load_state_dict(glide_files.public(network))
    return theirs.eval()


def official_process(schedule: str, steps: str) -> Any:
    respace = official("GLIDE_TEXT2IM", "glide_text2im.respace")
    betas = official("GLIDE_TEXT2IM", "glide_text2im.gaussian_diffusion").get_named_beta_schedule(schedule, 1000)
    return respace.SpacedDiffusion(use_timesteps=respace.space_timesteps(1000, steps), betas=betas)


def test_a_guided_chain_of_both_stages_is_the_official_one():
    base, upsampler = glide_files.glide(), glide_files.glide(**UPSAMPLER)
    theirs, theirs_up = official_network(base, "Text2ImUNet"), official_network(upsampler, "SuperResText2ImUNet")
    told, null = glide_files.condition(base), base.null_condition(2)
    x, scale = torch.randn(2, 3, 16, 16), 3.0

    def guided(x_t: Tensor, ts: Tensor, **kwargs: Tensor) -> Tensor:  # what GLIDE's notebook does
        half = x_t[:2]
        out = theirs(torch.cat([half, half]), ts, **kwargs)
        cond, uncond = out[:, :3].chunk(2)
        eps = uncond + scale * (cond - uncond)
        return torch.cat([torch.cat([eps, eps]), out[:, 3:]], dim=1)

    both = {name: torch.cat([told[name], null[name]]) for name in told}
    torch.manual_seed(7)
    expected = official_process("squaredcos_cap_v2", "5").p_sample_loop(
        guided, (4, 3, 16, 16), noise=torch.cat([x, x]), clip_denoised=True, device="cpu",
        model_kwargs={"tokens": both["tokens"], "mask": both["tokens_mask"]},
    )[:2]  # fmt: skip
    torch.manual_seed(7)
    with torch.no_grad():
        cosine = Denoiser(GaussianDiffusion(DiffusionConfig(schedule="cosine")), base)
        denoiser = ClassifierFree(cosine, base.prepare(null), scale).respace("5")
        small = sample_ddpm(denoiser, x, base.prepare(told), randn=first_half)
    assert_close(small, expected)

    noise = 0.997 * torch.randn(2, 3, 16, 16)
    expected = official_process("linear", "fast27").ddim_sample_loop(
        theirs_up, (2, 3, 16, 16), noise=noise, clip_denoised=True, device="cpu",
        model_kwargs={"tokens": told["tokens"], "mask": told["tokens_mask"], "low_res": small},
    )  # fmt: skip
    with torch.no_grad():
        linear = Denoiser(GaussianDiffusion(DiffusionConfig(schedule="linear")), upsampler).respace("fast27")
        assert_close(sample_ddim(linear, noise, upsampler.prepare({**told, "low_res": small})), expected)


def first_half(x: Tensor) -> Tensor:
    """The official code draws noise for both halves, and goes on with the first."""
    return torch.randn(2 * len(x), *x.shape[1:])[: len(x)]


def assert_close(ours: Tensor, theirs: Tensor) -> None:
    assert 0.05 < theirs.std() < 1
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)
