"""FreezeD: the discriminator's first layers keep their weights in an adaptation."""

from pathlib import Path

import pytest
import tiny
import torch

from tenshot.callbacks import StepCheckpoint
from tenshot.errors import InputError
from tenshot.lightning_modules import CDC, StyleGAN2
from tenshot.models import StyleGAN2Discriminator

FIRST = ["from_rgb", "blocks.0.conv1", "blocks.0.conv2", "blocks.0.skip", "blocks.1.conv1", "blocks.1.conv2"]
"""In the order of NVlabs' --freezed: of a block both convolutions, then the skip."""


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("source")
    tiny.trainer(folder, 1, StepCheckpoint()).fit(tiny.gan(), tiny.faces(image_size=32))
    return str(folder / "checkpoints" / "step=00000001.ckpt")


@pytest.mark.parametrize(("method", "count"), [(StyleGAN2, 1), (StyleGAN2, 5), (CDC, 5)])
def test_frozen_layers_and_no_others_keep_their_weights(
    source: str, tmp_path: Path, method: type[StyleGAN2], count: int
):
    before = torch.load(source, weights_only=True)["state_dict"]
    module = tiny.gan(method, init_from=source, freeze_d=count)
    tiny.trainer(tmp_path, 2).fit(module, tiny.faces(image_size=32))
    kept = {
        name.rpartition(".")[0]
        for name, weight in module.discriminator.named_parameters()
        if torch.equal(weight, before[f"discriminator.{name}"])
    }
    assert kept == set(FIRST[:count])
    assert {n.rpartition(".")[0] for n, p in module.discriminator.named_parameters() if not p.requires_grad} == kept


def test_layers_that_were_never_trained_are_not_frozen(source: str, tmp_path: Path):
    with pytest.raises(
        InputError, match=r"--model\.freeze_d 2 keeps trained layers: give them with --model\.init_from"
    ):
        tiny.trainer(tmp_path, 1).fit(tiny.gan(freeze_d=2), tiny.faces(image_size=32))
    content = torch.load(source, weights_only=True)
    content["state_dict"] = {k: v for k, v in content["state_dict"].items() if not k.startswith("discriminator.")}
    alone = tmp_path / "alone.ckpt"
    torch.save(content, alone)
    with pytest.raises(InputError, match=r"--model\.freeze_d 2: .*alone\.ckpt has no discriminator to keep layers of"):
        tiny.trainer(tmp_path, 1).fit(tiny.gan(init_from=str(alone), freeze_d=2), tiny.faces(image_size=32))


def test_a_resumed_run_needs_no_source_for_what_it_froze(source: str, tmp_path: Path):
    """The command line resumes without ``init_from``: the checkpoint has the weights."""
    run = tmp_path / "run"
    tiny.trainer(run, 2, StepCheckpoint()).fit(tiny.gan(init_from=source, freeze_d=2), tiny.faces(image_size=32))
    module, newest = tiny.gan(freeze_d=2), run / "checkpoints" / "step=00000002.ckpt"
    tiny.trainer(run, 3).fit(module, tiny.faces(image_size=32), ckpt_path=newest)
    before = torch.load(source, weights_only=True)["state_dict"]
    for name, weight in module.discriminator.named_parameters():
        frozen = name.rpartition(".")[0] in FIRST[:2]
        assert torch.equal(weight, before[f"discriminator.{name}"]) == frozen, name


def test_more_layers_than_there_are():
    StyleGAN2Discriminator(tiny.STYLEGAN2).freeze(10)
    with pytest.raises(InputError, match=r"--model\.freeze_d 11: a discriminator of 32 px has 10 layers"):
        StyleGAN2Discriminator(tiny.STYLEGAN2).freeze(11)
    with pytest.raises(InputError, match=r"--model\.freeze_d is -1: choose at least 0"):
        tiny.gan(freeze_d=-1)
