"""The attention pool's heads are as wide as the configuration says, and what there is no pool for is refused."""

import pytest
import tiny
import torch

from tenshot.errors import InputError
from tenshot.models import UNetClassifier
from tenshot.models.classifier import AttentionPool
from tenshot.models.pretrained import load_adm_classifier


@pytest.mark.parametrize("width", [8, 16, 32])
def test_each_head_attends_by_itself(width: int):
    torch.manual_seed(0)
    pool = AttentionPool(32, 5, side=2, head_channels=width).double()
    x = torch.randn(2, 32, 2, 2, dtype=torch.float64)
    tokens = torch.cat([x.flatten(2).mean(2, keepdim=True), x.flatten(2)], 2) + pool.positional_embedding  # (N, C, L)
    q, k, v = (pool.qkv.weight[:, :, 0, 0] @ tokens + pool.qkv.bias[:, None]).split(32, dim=1)
    heads = []
    for first in range(0, 32, width):
        part = slice(first, first + width)
        scores = torch.einsum("nc,ncl->nl", q[:, part, 0], k[:, part]) / width**0.5
        heads.append(torch.einsum("nl,ncl->nc", scores.softmax(1), v[:, part]))
    expected = torch.cat(heads, 1) @ pool.proj.weight[:, :, 0, 0].T + pool.proj.bias
    torch.testing.assert_close(pool(x), expected)


def test_without_a_width_of_heads_there_is_no_such_pool():
    with pytest.raises(InputError, match=r"head_channels is not set"):
        UNetClassifier(tiny.unet_config(head_channels=None, num_heads=1))


@pytest.mark.parametrize(("pool", "last"), [("spatial", "out.2"), ("spatial_v2", "out.3")])
def test_spatial_pools_are_refused_in_one_line(pool: str, last: str):
    state = tiny.public_state(UNetClassifier(tiny.unet_config(out_channels=5)).state_dict())
    state = {key: value for key, value in state.items() if not key.startswith(("out.", "pool."))}
    state |= {
        "out.0.weight": torch.zeros(2048, 224),
        "out.0.bias": torch.zeros(2048),
        f"{last}.weight": torch.zeros(5, 2048),
    }
    with pytest.raises(InputError, match=rf"a classifier with the pool {pool} \(out\.0\.weight"):
        load_adm_classifier(state, num_res_blocks=1)
