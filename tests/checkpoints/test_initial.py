import json
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from safetensors.torch import save_file
from torch import Tensor

from tenshot.callbacks import EMA, StepCheckpoint
from tenshot.diffusion import DiffusionConfig
from tenshot.errors import InputError
from tenshot.lightning_modules import DDPM
from tenshot.models.pretrained.adm_zoo import PublicModel

PROCESS = DiffusionConfig(num_steps=60, schedule="cosine")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose network, process, averaged and raw weights differ from every default."""
    folder = tmp_path_factory.mktemp("run")
    module = tiny.randomised(tiny.ddpm(unet=tiny.unet_config(dropout=0.1), diffusion=PROCESS))
    tiny.trainer(folder, 3, StepCheckpoint(every_n_steps=2), ema=EMA(0.9)).fit(module, tiny.faces())
    return folder


@pytest.fixture(scope="module")
def content(run: Path) -> dict[str, Any]:
    return torch.load(run / "checkpoints" / "step=00000003.ckpt", weights_only=True)


def started(path: Path | str, **arguments: Any) -> DDPM:
    module = DDPM(init_from=str(path), **({"sampler": tiny.QUICK} | arguments))
    module.configure_model()
    return module


def raw_of(content: dict[str, Any]) -> dict[str, Tensor]:
    return {name.removeprefix("unet."): value for name, value in content["state_dict"].items()}


@pytest.mark.parametrize("path", [".", "checkpoints/step=00000003.ckpt"])
def test_the_averaged_weights_of_a_run_or_of_its_checkpoint(run: Path, content: dict[str, Any], path: str):
    module = started(run / path)

    tiny.assert_same(module.unet.state_dict(), content["ema"]["weights"]["unet"])
    assert module.unet.config == tiny.unet_config(dropout=0.1)
    assert module.diffusion.config == PROCESS


def test_the_raw_weights_where_they_are_asked_for(run: Path, content: dict[str, Any]):
    tiny.assert_same(started(run, init_weights="raw").unet.state_dict(), raw_of(content))
    name = "conv.weight"
    assert not torch.equal(raw_of(content)[name], content["ema"]["weights"]["unet"][name])


def test_an_older_checkpoint_of_the_run(run: Path):
    path = run / "checkpoints" / "step=00000002.ckpt"
    older = torch.load(path, weights_only=True)
    tiny.assert_same(started(path).unet.state_dict(), older["ema"]["weights"]["unet"])


def test_the_newest_is_passed_over_where_it_is_torn(run: Path, tmp_path: Path):
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    for path in (run / "checkpoints").iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    newest = folder / "step=00000003.ckpt"
    newest.write_bytes(newest.read_bytes()[:-1000])

    older = torch.load(folder / "step=00000002.ckpt", weights_only=True)
    tiny.assert_same(started(tmp_path).unet.state_dict(), older["ema"]["weights"]["unet"])
    with pytest.raises(InputError, match=r"step=00000003\.ckpt: truncated or not a checkpoint"):
        started(newest)


def test_a_run_without_an_average_has_only_raw_weights(tmp_path: Path):
    module = tiny.randomised(tiny.ddpm())
    tiny.trainer(tmp_path, 1, StepCheckpoint(), ema=EMA(0)).fit(module, tiny.faces())
    tiny.assert_same(started(tmp_path).unet.state_dict(), module.unet.state_dict())


def test_converted_weights(tmp_path: Path):
    module = tiny.randomised(tiny.ddpm(diffusion=PROCESS))
    copy = started(tiny.weights_file(tmp_path / "weights.safetensors", module))

    tiny.assert_same(copy.unet.state_dict(), module.unet.state_dict())
    assert (copy.unet.config, copy.diffusion.config) == (module.unet.config, PROCESS)


def test_training_starts_from_exactly_these_weights(run: Path, content: dict[str, Any], tmp_path: Path):
    module = started(run, optimizer=tiny.adam(0.0))
    ema = EMA(0.9)
    tiny.trainer(tmp_path, 1, ema=ema).fit(module, tiny.faces())

    expected = content["ema"]["weights"]["unet"]
    tiny.assert_same(module.unet.state_dict(), expected)
    for name, value in ema.average["unet"].items():
        torch.testing.assert_close(value, expected[name])


def test_another_process_than_the_weights_were_trained_with_warns(run: Path):
    with pytest.warns(UserWarning, match="was trained with"):
        module = started(run, diffusion=DiffusionConfig(num_steps=60, schedule="linear"))
    assert module.diffusion.config.schedule == "linear"


def test_weights_that_do_not_fit_the_network_asked_for(run: Path):
    with pytest.raises(InputError, match=r"does not fit the network: .*missing keys") as raised:
        started(run, unet=tiny.unet_config(channel_mult=(1, 2, 2)))
    assert "\n" not in str(raised.value)


# Public checkpoints


@pytest.fixture
def public(tmp_path: Path) -> tuple[Path, DDPM]:
    """A file as the public code writes it, and the network whose weights it holds."""
    module = tiny.randomised(tiny.ddpm())
    path = tmp_path / "ema_0.9999_000100.pt"
    torch.save(tiny.public_state(module.unet.state_dict()), path)
    return path, module


def test_a_foreign_file_must_be_told_what_shapes_do_not_tell(public: tuple[Path, DDPM]):
    with pytest.raises(InputError, match="image_size, attention_order, num_heads or head_channels") as raised:
        started(public[0])
    assert "\n" not in str(raised.value)
    with pytest.raises(InputError, match=r"does not tell its noise process: give --model\.diffusion"):
        started(public[0], unet=tiny.unet_config())


def test_a_foreign_file_with_its_network_and_process(public: tuple[Path, DDPM]):
    path, module = public
    copy = started(path, unet=tiny.unet_config(), diffusion=DiffusionConfig())

    tiny.assert_same(copy.unet.state_dict(), module.unet.state_dict())
    x, t = torch.randn(2, 3, 16, 16), torch.tensor([3, 500])
    assert torch.equal(copy.unet(x, t), module.unet(x, t))


def test_a_file_of_the_table_needs_nothing(public: tuple[Path, DDPM], monkeypatch: pytest.MonkeyPatch):
    row = PublicModel(
        ("tiny",), 16, 32, (1, 2), 1, (8,), head_channels=32, dropout=0.2, schedule="cosine", num_steps=400,
        rescale_timesteps=True,
    )  # fmt: skip
    monkeypatch.setattr("tenshot.models.pretrained.adm.ZOO", (row,))
    copy = started(public[0])

    tiny.assert_same(copy.unet.state_dict(), public[1].unet.state_dict())
    assert copy.unet.config == tiny.unet_config(dropout=0.2)
    assert copy.diffusion.config == DiffusionConfig(400, "cosine", "learned_range", rescale_timesteps=True)


@pytest.mark.parametrize(
    "change", [{"schedule": "cosine"}, {"num_steps": 4000}, {"rescale_timesteps": True}, {"head_channels": 16}]
)
def test_a_file_of_two_rows_of_the_table_must_be_named_like_one(
    public: tuple[Path, DDPM], monkeypatch: pytest.MonkeyPatch, change: dict[str, Any]
):
    """Nothing in it tells which; rows that differ in dropout alone are one process."""
    row = PublicModel(("first",), 16, 32, (1, 2), 1, (8,), head_channels=32)
    drop, other = replace(row, names=("drop",), dropout=0.1), replace(row, names=("other", "same"), **change)
    monkeypatch.setattr("tenshot.models.pretrained.adm.ZOO", (row, drop, other))
    with pytest.raises(InputError, match=r"shapes of first and of other, .*: name the file like the one") as raised:
        started(public[0])
    assert "\n" not in str(raised.value)

    module = started(public[0].rename(public[0].with_name("same.pt")))
    told = vars(module.unet.config) | vars(module.diffusion.config)
    assert told.items() >= change.items()
    assert started(public[0].with_name("same.pt").rename(public[0].with_name("drop.pt"))).unet.config.dropout == 0.1


@pytest.mark.parametrize("name", ["mine.pt", "tiny.pt"])
def test_what_dropout_is_assumed_is_said_and_an_option_sets_another(
    public: tuple[Path, DDPM], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, name: str
):
    """A file is told by its shapes, which say nothing of dropout; its public name does."""
    row = PublicModel(("tiny",), 16, 32, (1, 2), 1, (8,), head_channels=32)
    monkeypatch.setattr("tenshot.models.pretrained.adm.ZOO", (row,))
    path = public[0].rename(public[0].with_name(name))
    line = "dropout 0.0, assumed: the file cannot tell, --model.dropout sets it"
    assert started(path).unet.config.dropout == 0
    assert (line in caplog.text) == (name == "mine.pt")
    caplog.clear()
    assert started(path, dropout=0.1).unet.config == tiny.unet_config(dropout=0.1)
    assert "assumed:" not in caplog.text


def test_the_dropout_asked_for_is_that_of_any_network(run: Path):
    assert started(run, dropout=0.25).unet.config == tiny.unet_config(dropout=0.25)
    assert tiny.ddpm(unet=tiny.unet_config(dropout=0.1), dropout=0.25).unet.config.dropout == 0.25


# Files that hold something else


def test_code_in_a_file_is_not_run(tmp_path: Path, public: tuple[Path, DDPM]):
    state = torch.load(public[0])
    path, fuse = tmp_path / "weights.pt", tmp_path / "fuse"
    torch.save(state | {"note": tiny.Bomb(fuse)}, path)
    with pytest.raises(InputError, match="note"):
        started(path)
    torch.save({"model": state, "note": tiny.Bomb(fuse)}, path)
    copy = started(path, unet=tiny.unet_config(), diffusion=DiffusionConfig())
    tiny.assert_same(copy.unet.state_dict(), public[1].unet.state_dict())
    torch.save(state | {"time_embed.0.weight": Wrapped(state["time_embed.0.weight"], fuse)}, path)
    with pytest.raises(InputError, match=r"oddly shaped keys \(time_embed\.0\.weight Inert"):
        started(path)
    assert not fuse.exists()


def _lit(value: Tensor, fuse: Path) -> Tensor:
    fuse.touch()
    return value


class Wrapped:
    """A tensor behind a function call."""

    def __init__(self, value: Tensor, fuse: Path) -> None:
        self.value, self.fuse = value, fuse

    def __reduce__(self) -> tuple[Any, ...]:
        return _lit, (self.value, self.fuse)


def test_an_old_fashioned_pickle_is_refused_too(tmp_path: Path):
    path, fuse = tmp_path / "weights.pkl", tmp_path / "fuse"
    path.write_bytes(pickle.dumps(tiny.Bomb(fuse)))
    with pytest.raises(InputError):
        started(path)
    assert not fuse.exists()


def _without_header(folder: Path) -> Path:
    save_file({"x": torch.zeros(1)}, folder / "plain.safetensors", metadata={"note": json.dumps("nothing")})
    return folder / "plain.safetensors"


def _torn(folder: Path) -> Path:
    path = tiny.weights_file(folder / "torn.safetensors", tiny.ddpm())
    path.write_bytes(path.read_bytes()[:1000])
    return path


def _other_program(folder: Path) -> Path:
    torch.save({"pytorch-lightning_version": "2.6", "state_dict": {}}, folder / "other.ckpt")
    return folder / "other.ckpt"


def _other_method(folder: Path) -> Path:
    content = {"pytorch-lightning_version": "2.6", "state_dict": {}, "tenshot": {"method": "StyleGAN2"}}
    torch.save(content, folder / "gan.ckpt")
    return folder / "gan.ckpt"


def _text(folder: Path) -> Path:
    (folder / "weights.pt").write_text("see elsewhere")
    return folder / "weights.pt"


def _classifier(folder: Path) -> Path:
    torch.save({"layer1.weight": torch.zeros(3), "fc.bias": torch.zeros(3)}, folder / "resnet.pt")
    return folder / "resnet.pt"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (_without_header, r"plain\.safetensors: not a guided-diffusion or improved-diffusion network, but .*unknown"),
        (_torn, r"torn\.safetensors: truncated or not a safetensors file"),
        (_other_program, r"other\.ckpt: not a guided-diffusion .* network, but a checkpoint of another program"),
        (_other_method, r"gan\.ckpt: a checkpoint of StyleGAN2, which has no diffusion U-Net"),
        (_text, r"weights\.pt: truncated or not a checkpoint"),
        (_classifier, r"resnet\.pt: not a guided-diffusion or improved-diffusion network, but .*unknown"),
        (lambda folder: folder / "missing.pt", r"missing\.pt: no such checkpoint file or run folder"),
        (lambda folder: folder, r"no whole checkpoint in its folder checkpoints"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_cannot_be_read_is_one_line(tmp_path: Path, make: Any, message: str):
    with pytest.raises(InputError, match=message) as raised:
        started(make(tmp_path))
    assert "\n" not in str(raised.value)
