"""What StyleGAN2 refuses or warns of."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from torch import Tensor

from tenshot.callbacks import StepCheckpoint
from tenshot.datamodules import FewShot
from tenshot.errors import InputError
from tenshot.lightning_modules import DDPM, Regularization, StyleGAN2


@pytest.mark.parametrize(
    ("arguments", "data", "complaint"),
    [
        ({}, {"image_size": 16}, r"images of 16 px \(--data\.image_size\) for a network of 32 px"),
        ({}, {"batch_size": 6}, r"--data\.batch_size is 6, but the discriminator compares groups of 4 images"),
        ({"micro_batch": 6}, {"batch_size": 12}, r"--model\.micro_batch is 6, but"),
        ({"micro_batch": 4}, {"batch_size": 6}, r"--data\.batch_size 6 is no multiple of --model\.micro_batch 4"),
    ],
)
def test_images_that_do_not_suit_are_refused_before_training(
    tmp_path: Path, arguments: dict[str, Any], data: dict[str, Any], complaint: str
):
    with pytest.raises(InputError, match=complaint):
        tiny.trainer(tmp_path, 1).fit(tiny.gan(**arguments), tiny.faces(**({"image_size": 32} | data)))


def test_a_single_shot_is_warned_of(tmp_path: Path, shots: Path, caplog: pytest.LogCaptureFixture):
    data = FewShot(str(shots), shots=1, image_size=32, batch_size=2)
    with pytest.warns(UserWarning, match="learns a single image by heart"):
        tiny.trainer(tmp_path, 1).fit(tiny.gan(), data)


def test_a_penalty_that_is_no_number_stops_the_run_and_is_named(tmp_path: Path):
    class Broken(StyleGAN2):
        def r1_terms(self, *arguments: Any) -> dict[str, Tensor]:
            return {"r1": super().r1_terms(*arguments)["r1"] * float("nan")}

    with pytest.raises(
        InputError, match=r"the loss 'r1' became NaN or infinite at step 1, before the first checkpoint: lower"
    ):
        tiny.trainer(tmp_path, 3, StepCheckpoint(every_n_steps=1)).fit(tiny.gan(Broken), tiny.faces(image_size=32))
    assert not list((tmp_path).glob("checkpoints/*.ckpt"))


def test_weights_of_another_architecture_are_refused(tmp_path: Path):
    tiny.trainer(tmp_path, 1, StepCheckpoint()).fit(tiny.gan(), tiny.faces(image_size=32))
    path = str(tmp_path / "checkpoints" / "step=00000001.ckpt")
    for field, value in (("image_size", 64), ("channel_base", 128), ("mapping_layers", 3), ("max_channels", 8)):
        asked = replace(tiny.STYLEGAN2, **{field: value})
        complaint = rf"another network, with stylegan2\.{field} \d+ \(here {value}\): "
        with pytest.raises(InputError, match=rf"{complaint}leave out --model\.stylegan2"):
            tiny.gan(init_from=path, stylegan2=asked)
        module = tiny.gan(stylegan2=asked)
        with pytest.raises(InputError, match=complaint):
            module.on_load_checkpoint(torch.load(path, weights_only=True))
    ddpm = tmp_path / "ddpm"
    tiny.trainer(ddpm, 1, StepCheckpoint()).fit(tiny.ddpm(), tiny.faces())
    with pytest.raises(InputError, match="a checkpoint of DDPM, which has no StyleGAN2"):
        tiny.gan(init_from=str(ddpm))
    with pytest.raises(InputError, match="a checkpoint of StyleGAN2, which has no diffusion U-Net"):
        DDPM(init_from=path).configure_model()


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"r1": -1.0}, r"--model\.regularization\.r1 is -1\.0: choose at least 0"),
        ({"r1_every": 0}, r"--model\.regularization\.r1_every is 0: choose at least 1"),
        ({"path_length_decay": 0.0}, r"--model\.regularization\.path_length_decay is 0\.0"),
    ],
)
def test_regularisation_that_makes_no_sense(changes: dict[str, Any], complaint: str):
    with pytest.raises(InputError, match=complaint):
        Regularization(**changes)


def test_a_network_is_needed():
    with pytest.raises(InputError, match=r"StyleGAN2 needs a network: give --model\.stylegan2"):
        StyleGAN2()
