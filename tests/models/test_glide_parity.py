"""GLIDE's and PITI's networks against the official code, weights carried over by the importer."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from official_code import official, randomised
from torch import Tensor

from tenshot.models.pretrained import load_condition_encoder, load_glide, load_piti

VOCABULARY, LENGTH, WIDTH = 40, 7, 64
UNET: dict[str, Any] = {
    "in_channels": 3, "model_channels": 32, "out_channels": 6, "num_res_blocks": 1, "attention_resolutions": (2, 4),
    "channel_mult": (1, 2, 3), "num_head_channels": 16, "use_scale_shift_norm": True, "resblock_updown": True,
    "dropout": 0.1,
}  # fmt: skip
OURS: dict[str, Any] = {"image_size": 32, "head_channels": 16}


def assert_close(ours: Tensor, theirs: Tensor) -> None:
    assert theirs.abs().max() > 1e-2
    error = (ours - theirs).abs().max() / theirs.abs().max()
    assert error < 1e-5, f"relative error {error:.2e}"


def noisy(size: int = 32) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(2, 3, size, size, generator=generator), torch.tensor([17, 803])


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("Text2ImUNet", {}),
        ("SuperResText2ImUNet", {"low_res": torch.rand(2, 3, 8, 8) * 2 - 1}),
        ("InpaintText2ImUNet", {"inpaint_image": torch.rand(2, 3, 32, 32), "inpaint_mask": torch.ones(2, 1, 32, 32)}),
        ("InpaintText2ImUNet", {}),
        (
            "SuperResInpaintText2ImUnet",
            {
                "low_res": torch.rand(2, 3, 8, 8), "inpaint_image": torch.rand(2, 3, 32, 32),
                "inpaint_mask": torch.rand(2, 1, 32, 32).round(),
            },
        ),
    ],
)  # fmt: skip
def test_glide(kind, told):
    tokenizer = SimpleNamespace(n_vocab=VOCABULARY)
    theirs = getattr(official("GLIDE_TEXT2IM", "glide_text2im.text2im_model"), kind)(
        text_ctx=LENGTH, xf_width=WIDTH, xf_layers=2, xf_heads=4, xf_final_ln=True, xf_padding=True,
        tokenizer=tokenizer, **UNET,
    )  # fmt: skip
    ours = load_glide(randomised(theirs).state_dict(), text_heads=4, **OURS).eval()
    x, t = noisy()
    tokens = torch.randint(VOCABULARY, (2, LENGTH))
    mask = torch.tensor([[True] * 4 + [False] * 3, [False] * 7])
    with torch.no_grad():
        expected = theirs(x, t, tokens=tokens, mask=mask, **told)
        assert_close(ours(x, t, tokens=tokens, tokens_mask=mask, **told), expected)
        prepared = ours.prepare({"tokens": tokens, "tokens_mask": mask, **told})
        assert_close(ours(x, t, **prepared), expected)


@pytest.mark.parametrize(("channels", "low_res"), [(3, False), (1, True), (6, False)])
def test_piti(channels, low_res, monkeypatch):
    module = official("PITI", "pretrained_diffusion.text2im_model")
    blocks = module.Transformer  # eight, whatever the official encoder is asked for; two are enough
    monkeypatch.setattr(module, "Transformer", lambda width, layers, heads: blocks(width, 2, heads))
    theirs = (module.SuperResText2ImModel if low_res else module.Text2ImModel)(
        text_ctx=128, xf_width=512, xf_layers=2, xf_heads=8, xf_final_ln=True, use_fp16=False, num_heads=1,
        num_heads_upsample=-1, n_class=channels, **UNET,
    )  # fmt: skip
    state = randomised(theirs).state_dict()
    ours = load_piti(state, **OURS).eval()
    assert ours.config.condition_layers == 2
    x, t = noisy()
    image = torch.randint(256, (2, channels, 256, 256), dtype=torch.uint8)
    low = {"low_res": torch.rand(2, 3, 8, 8)} if low_res else {}
    with torch.no_grad():
        expected = theirs(x, t, ref=(image / 255 - 0.5) / 0.5, **low)
        assert_close(ours(x, t, condition_image=image, **low), expected)
        assert_close(ours(x, t, **ours.prepare({"condition_image": image, **low})), expected)
        alone = {key.removeprefix("encoder."): value for key, value in state.items() if key.startswith("encoder.")}
        tokens, pooled = load_condition_encoder(alone).eval()(image)
        outputs = theirs.encoder((image / 255 - 0.5) / 0.5)
        assert_close(tokens, outputs["xf_out"])
        assert_close(pooled, outputs["xf_proj"])
