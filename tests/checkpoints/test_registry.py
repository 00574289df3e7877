"""A kind of network that nobody has heard of: one record, and everything that reads or writes files deals with it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
import yaml
from jsonargparse import Namespace
from lightning.pytorch import LightningModule
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from tenshot.callbacks import EMA, StepCheckpoint
from tenshot.checkpoints import KINDS, STYLEGAN2, UNET, Kind, Trained, Weights, describe, read, refuse_other, start_from
from tenshot.checkpoints.registry import configurations, kind_in
from tenshot.cli.image_size import image_size_of
from tenshot.cli.weights import from_weights
from tenshot.errors import InputError
from tenshot.models import StyleGAN2Config


@dataclass(frozen=True)
class ToyConfig:
    side: int = 8
    widths: tuple[int, ...] = (2, 3)
    dropout: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "widths", tuple(self.widths))


class Toy(nn.Module):
    def __init__(self, config: ToyConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise((config.side, *config.widths)))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return x


def public(path: str, content: Mapping[str, Any], weights: Weights, told: Mapping[str, Any]) -> Trained[ToyConfig]:
    return Trained(TOY, path, ToyConfig(**told), {"network": content["toy"]}, "weights of a toy")


def export(target: Path, average: Trained[ToyConfig], raw: Trained[ToyConfig]) -> list[str]:
    torch.save({"toy": dict(average.states["network"]), "raw": dict(raw.states["network"])}, target)
    return [f"{target}: {average.origin}; {raw.origin}"]


TOY = Kind(
    name="toy", words="toy", method="ToyMethod", config=ToyConfig, networks={"network": Toy},
    holds=lambda content: "toy" in content, public=public, options=("dropout",), settings=("dropout",),
    same=lambda config: replace(config, dropout=0.0), image_size="side", exports={".toy": export},
)  # fmt: skip


class ToyMethod(LightningModule):
    averaged = ("network",)

    def __init__(self, toy: ToyConfig | None = None, init_from: str | None = None, weights: Weights = "ema") -> None:
        super().__init__()
        self.config = toy or ToyConfig()
        if init_from is not None:
            trained = read(init_from, TOY, weights)
            self.config = trained.config_for(toy)
        self.network = Toy(self.config)
        if init_from is not None:
            start_from(trained, self)

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        loss: Tensor = self.network(torch.ones(1, self.config.side)).square().sum()
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["tenshot"] = describe(TOY, self.config, type(self).__name__)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        refuse_other(self, checkpoint, TOY, self.config)


@pytest.fixture(autouse=True)
def _known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(KINDS, "toy", TOY)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two steps, whose averaged and raw weights differ."""
    folder = tmp_path_factory.mktemp("toy")
    config = ToyConfig(4, (2, 3), dropout=0.25)
    tiny.trainer(folder, 2, StepCheckpoint(), ema=EMA(0.5)).fit(ToyMethod(config), tiny.faces())
    return folder


@pytest.fixture(scope="module")
def content(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = torch.load(run / "checkpoints" / "step=00000002.ckpt", weights_only=True)
    return found


def weights_in(content: dict[str, Any], weights: Weights) -> dict[str, Tensor]:
    if weights == "ema":
        average: dict[str, Tensor] = content["ema"]["weights"]["network"]
        return average
    return {name.removeprefix("network."): value for name, value in content["state_dict"].items()}


@pytest.mark.parametrize("weights", ["ema", "raw"])
def test_a_run_tells_what_it_holds(run: Path, content: dict[str, Any], weights: Weights):
    assert content["tenshot"] == {"method": "ToyMethod", "toy": {"side": 4, "widths": [2, 3], "dropout": 0.25}}
    found = read(str(run), weights=weights)
    assert (found.kind, found.config) == (TOY, ToyConfig(4, (2, 3), 0.25))
    tiny.assert_same(found.states, {"network": weights_in(content, weights)})
    assert found.origin == f"{ {'ema': 'averaged weights (2 updates)', 'raw': 'raw weights'}[weights] } of step 2"
    tiny.assert_same(ToyMethod(init_from=str(run), weights=weights).network.state_dict(), found.states["network"])
    assert not torch.equal(*(weights_in(content, which)["layers.0.weight"] for which in ("ema", "raw")))


def test_a_setting_of_training_may_be_told(run: Path):
    assert read(str(run), told={"dropout": 0.5, "side": 99}).config == ToyConfig(4, (2, 3), 0.5)


def test_others_are_refused(run: Path, content: dict[str, Any], trained: Path):
    path = run / "checkpoints" / "step=00000002.ckpt"
    for kind, file in ((TOY, trained), (UNET, run)):
        name = {"toy": "DDPM", "unet": "ToyMethod"}[kind.name]
        with pytest.raises(InputError, match=rf"\.ckpt: a checkpoint of {name}, which has no {kind.words}"):
            read(str(file), kind)
    differ = r"another network, with toy\.widths \(2, 3\) \(here \(2, 5\)\): "
    with pytest.raises(InputError, match=differ + r"leave out --model\.toy"):
        ToyMethod(ToyConfig(4, (2, 5)), init_from=str(path))
    with pytest.raises(InputError, match=differ + "give the configuration of its run"):
        ToyMethod(ToyConfig(4, (2, 5))).on_load_checkpoint(dict(content))
    ToyMethod(ToyConfig(4, (2, 3), dropout=0.5)).on_load_checkpoint(dict(content))
    with pytest.raises(InputError, match=r"a checkpoint of DDPM, which has no toy: .* --ckpt_path or --model"):
        ToyMethod().on_load_checkpoint(torch.load(trained / "checkpoints" / "step=00000004.ckpt", weights_only=True))


def test_it_is_converted_and_exported(tenshot: tiny.Run, run: Path, content: dict[str, Any], tmp_path: Path):
    target, exported = tmp_path / "new" / "a.safetensors", tmp_path / "new" / "b.toy"
    outcome = tenshot("convert", run, target, "--weights", "raw")
    assert outcome.status == 0, outcome.err
    tiny.assert_same(load_file(target), weights_in(content, "raw"))
    with safe_open(target, framework="pt") as file:
        assert {name: json.loads(value) for name, value in file.metadata().items()} == content["tenshot"]
    beside = yaml.safe_load(target.with_suffix(".yaml").read_text())
    assert beside == {"model": {"class_path": "ToyMethod", "init_args": {"init_from": str(target)}}}

    assert tenshot("convert", target, exported).status == 0
    tiny.assert_same(torch.load(exported, weights_only=True)["raw"], weights_in(content, "raw"))
    assert "averaged weights (2 updates) of step 2; raw weights of step 2" in tenshot("convert", run, exported).out
    tiny.assert_same(torch.load(exported, weights_only=True)["toy"], weights_in(content, "ema"))
    assert (
        "holds a toy, for which there is no --num_heads"
        in tenshot("convert", run, target, "--num_heads", "1").complaint
    )
    assert "with the ending .safetensors or .toy" in tenshot("convert", run, tmp_path / "c.pt").complaint


def test_a_public_file_is_told_by_its_content_and_read(tenshot: tiny.Run, tmp_path: Path):
    network = Toy(ToyConfig())
    torch.save({"toy": network.state_dict()}, tmp_path / "toy.pt")
    assert kind_in(str(tmp_path / "toy.pt")) is TOY
    assert tenshot("convert", tmp_path / "toy.pt", tmp_path / "a.safetensors", "--dropout", "0.5").status == 0
    found = read(str(tmp_path / "a.safetensors"))
    assert (found.kind, found.config, found.origin) == (TOY, ToyConfig(dropout=0.5), "converted weights")
    tiny.assert_same(found.states["network"], network.state_dict())


def test_the_commands_know_its_method_its_image_size_and_its_options(
    content: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = tmp_path / "toy.pt"
    torch.save({"toy": Toy(ToyConfig()).state_dict()}, path)
    given = Namespace(toy=Namespace(side=64), init_from=None)
    assert image_size_of(Namespace(class_path="x.ToyMethod", init_args=given)) == 64
    given = Namespace(toy=None, init_from=str(path), init_weights="ema")
    assert image_size_of(Namespace(class_path="x.ToyMethod", init_args=given)) == 8
    assert configurations(content["tenshot"]) == {"toy": {"side": 4, "widths": [2, 3], "dropout": 0.25}}
    words = ["test", "--ckpt_path", str(path)]
    assert from_weights(words) == ["test", "--model", "ToyMethod", "--model.init_from", str(path)]
    monkeypatch.setitem(KINDS, "toy", replace(TOY, instead="play with it"))
    with pytest.raises(InputError, match=r"toy\.pt: a toy, which draws none: play with it"):
        from_weights(words)


def test_stylegan2s_of_the_same_widths_are_the_same_however_they_are_described():
    ours = StyleGAN2Config(image_size=32, channel_base=256, max_channels=16)
    for base, most, reduced in product((250, 256, 263, 264, 512), (8, 16, 17, 64), (0, 4)):
        other = replace(ours, channel_base=base, max_channels=most, reduced_resolutions=reduced)
        same = all(ours.width(side) == other.width(side) for side in ours.resolutions)
        assert (STYLEGAN2.differences(ours, other) == "") == same, (base, most)
