"""DDPM with classes: learning from labels and drawing by them."""

from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from torch import Tensor

from tenshot.errors import InputError
from tenshot.lightning_modules import DDPM


def conditional(**arguments: Any) -> DDPM:
    return tiny.randomised(tiny.ddpm(unet=tiny.unet_config(num_classes=9), **arguments))


def test_a_class_conditional_model_learns_from_labels_and_draws_by_them(tmp_path: Path):
    module = conditional()
    assert module.unet.class_embedding is not None
    before = module.unet.class_embedding.weight.detach().clone()
    data = tiny.faces(labels=True, num_images=4)
    trainer = tiny.trainer(tmp_path, 1)
    trainer.fit(module, data)

    shown = data.train_source.read(range(4))["label"].unique().tolist()
    moved = (module.unet.class_embedding.weight != before).any(1).nonzero().flatten().tolist()
    assert moved == shown
    assert 1 < len(shown) < 9
    assert trainer.global_step == 1

    seeds = torch.tensor([5, 5, 6])
    images = module.sample(seeds, {"label": torch.tensor([0, 1, 1])})
    assert images.shape == (3, 3, 16, 16)
    assert not torch.equal(images[0], images[1])
    assert torch.equal(images, module.sample(seeds, {"label": torch.tensor([0, 1, 1])}))


def test_labels_that_nobody_asked_for_are_drawn_by_the_seed():
    module = conditional()
    asked: list[Tensor] = []
    forward = module.unet.forward

    def note(x: Tensor, t: Tensor, label: Tensor) -> Tensor:
        asked.append(label)
        return forward(x, t, label)

    module.unet.forward = note  # type: ignore[method-assign]
    images = module.sample(torch.arange(12))
    labels = torch.cat(asked[::2])  # two steps, three batches of four
    asked.clear()
    again = module.sample(torch.tensor([7]))

    assert torch.equal(images[7:8], again)
    assert asked[0][0] == labels[7]
    assert len(labels.unique()) > 3
    assert 0 <= labels.min() <= labels.max() <= 8


def test_predict_takes_the_labels_of_a_batch():
    module = conditional()
    batch = {"index": torch.tensor([4, 6]), "seed": torch.tensor([1, 2]), "condition": {"label": torch.tensor([3, 8])}}
    drawn = module.predict_step(batch, 0)

    assert torch.equal(drawn["index"], batch["index"])
    assert torch.equal(drawn["image"], module.sample(batch["seed"], batch["condition"]))
    del batch["condition"]
    assert torch.equal(module.predict_step(batch, 0)["image"], module.sample(batch["seed"]))


@pytest.mark.parametrize(
    ("unet", "data", "message"),
    [
        ({}, {"image_size": 32}, r"images of 32 px \(--data\.image_size\) for a network of 16 px"),
        ({"num_classes": 9}, {}, r"the network has 9 classes, the data no labels: set --data\.labels true"),
        ({"num_classes": 8}, {"labels": True}, r"the network has 8 classes, the data 9"),
    ],
)
def test_data_must_suit_the_network(tmp_path: Path, unet: dict[str, Any], data: dict[str, Any], message: str):
    with pytest.raises(InputError, match=message) as raised:
        tiny.trainer(tmp_path, 1).fit(tiny.ddpm(unet=tiny.unet_config(**unet)), tiny.faces(**data))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("unet", "data"), [({"num_classes": 10}, {"labels": True}), ({}, {"labels": True})], ids=["spare class", "ignored"]
)
def test_more_classes_than_labels_and_labels_not_used_are_fine(
    tmp_path: Path, unet: dict[str, Any], data: dict[str, Any]
):
    trainer = tiny.trainer(tmp_path, 1)
    trainer.fit(tiny.ddpm(unet=tiny.unet_config(**unet)), tiny.faces(**data))
    assert trainer.global_step == 1
