"""Adaptation of few parameters in training, in checkpoints, and in files of what was trained alone."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import tiny
import tiny_piti
import torch
from lightning.pytorch import LightningModule
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from tenshot.callbacks import EMA, StepCheckpoint
from tenshot.checkpoints import read
from tenshot.checkpoints.runs import checkpoint_path
from tenshot.cli.convert import convert_file
from tenshot.lightning_modules import CDC, DDPM, DDPMPA, PITI, StyleGAN2
from tenshot.models import Adaptation

LORA = Adaptation(rank=2)
ORIGINAL = ".parametrizations.weight.original"


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A diffusion model of random weights."""
    module = tiny.randomised(tiny.ddpm(unet=tiny.unet_config(**tiny.SMALL)))
    return tiny.weights_file(tmp_path_factory.mktemp("source") / "source.safetensors", module)


@pytest.fixture(scope="module")
def run(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four steps of DDPM-PA from it, saved after each second."""
    folder = tmp_path_factory.mktemp("run")
    adapt(folder, source, 4)
    return folder


def adapt(
    folder: Path,
    source: Path,
    steps: int,
    resumed: Path | None = None,
    adaptation: Adaptation | None = LORA,
    **how: Any,
) -> DDPMPA:
    module = tiny.ddpm_pa(source, adapt=adaptation)
    trainer = tiny.trainer(folder, steps, StepCheckpoint(every_n_steps=2, keep=9), **how)
    trainer.fit(module, tiny.faces(), ckpt_path=resumed)
    return module


def content_of(run: Path, step: int) -> dict[str, Any]:
    content: dict[str, Any] = torch.load(checkpoint_path(run, step), weights_only=True)
    return content


def frozen(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Of an adapted network's state_dict what is not trained, by plain names."""
    return {name.replace(ORIGINAL, ".weight"): value for name, value in state.items() if "lora_" not in name}


def test_what_is_trained_averaged_and_saved(run: Path, source: Path):
    content, file = content_of(run, 4), load_file(source)
    state = {name.removeprefix("unet."): w for name, w in content["state_dict"].items() if name.startswith("unet.")}
    tiny.assert_same(frozen(state), file)
    added = {name for name in state if "lora_" in name}
    assert content["ema"]["weights"]["unet"].keys() == added
    assert len(content["optimizer_states"][0]["state"]) == len(added)
    assert all(state[name].abs().max() > 1e-4 for name in added if name.endswith("lora_B"))
    assert content["tenshot"]["adapt"]["unet"]["rank"] == 2


def test_the_frozen_source_stays_as_it_is(source: Path, tmp_path: Path):
    module = adapt(tmp_path, source, 1)
    assert module.source.network is not None
    tiny.assert_same(dict(module.source.network.state_dict()), load_file(source))
    buckets = {name for name, weight in module.named_parameters() if weight.requires_grad}
    assert buckets == {name for name, _ in module.named_parameters() if "lora_" in name}
    assert not any(weight.grad is not None for name, weight in module.named_parameters() if name not in buckets)


def test_resuming_changes_nothing(run: Path, source: Path, tmp_path: Path):
    adapt(tmp_path, source, 4, checkpoint_path(run, 2))
    whole, resumed = content_of(run, 4), content_of(tmp_path, 4)
    for part in ("state_dict", "optimizer_states", "ema", "tenshot"):
        tiny.assert_same(resumed[part], whole[part], part)


@pytest.mark.parametrize("adaptation", [None, Adaptation(rank=3), Adaptation(rank=2, alpha=4.0), Adaptation("norms")])
def test_a_run_goes_on_with_what_it_trained(run: Path, source: Path, tmp_path: Path, adaptation: Adaptation | None):
    words = ("trained were unet LoRA of rank 2, times 1", "start a new run from its weights")
    tiny.refusal(lambda: adapt(tmp_path, source, 6, checkpoint_path(run, 4), adaptation), *words)


def test_fresh_weights_are_not_adapted(tmp_path: Path):
    for module, data in (
        (tiny.ddpm(adapt=LORA), tiny.faces()),
        (tiny_piti.piti(piti=tiny_piti.TINY, adapt=LORA), tiny_piti.pairs()),
        (tiny.gan(adapt_d=LORA), tiny.faces(image_size=32)),
    ):
        tiny.refusal(lambda m=module, d=data: tiny.trainer(tmp_path, 1).fit(m, d), "give them with --model.init_from")


def test_bf16_trains_float32_adapters(source: Path, tmp_path: Path):
    module = adapt(tmp_path, source, 2, precision="bf16-mixed")
    tiny.assert_same(frozen(module.unet.state_dict()), load_file(source))
    assert {weight.dtype for weight in module.unet.parameters()} == {torch.float32}
    drawn = module.sample(torch.arange(2))
    assert drawn.dtype == torch.float32


def test_norms_alone(source: Path, tmp_path: Path):
    module = adapt(tmp_path, source, 2, adaptation=Adaptation("norms"))
    before, after = load_file(source), module.unet.state_dict()
    moved = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert moved == {name for name, value in after.items() if value.dim() == 1}
    ema = content_of(tmp_path, 2)["ema"]["weights"]["unet"]
    assert ema.keys() == moved


# Files


def drawn(module: DDPM) -> Tensor:
    return module.sample(torch.arange(2))


@pytest.mark.parametrize("weights", ["ema", "raw"])
def test_a_checkpoint_is_read_as_a_plain_network_that_draws_the_same(run: Path, weights: Any):
    content = content_of(run, 4)
    module = tiny.ddpm_pa(Path(content["tenshot"]["adapted_from"]["path"]), adapt=LORA)
    state = content["state_dict"]
    if weights == "ema":
        state = state | {f"unet.{name}": value for name, value in content["ema"]["weights"]["unet"].items()}
    module.load_state_dict(state)
    plain = tiny.ddpm_pa(run, init_weights=weights)
    assert not any("lora" in name for name in plain.state_dict())
    assert torch.equal(drawn(plain), drawn(module))


@pytest.mark.parametrize("weights", ["ema", "raw"])
def test_an_adapter_is_a_small_file_that_goes_with_its_source(run: Path, source: Path, tmp_path: Path, weights: Any):
    alone, whole, again = (str(tmp_path / f"{name}.safetensors") for name in ("alone", "whole", "again"))
    convert_file(str(run), alone, weights, adapter=True)
    convert_file(str(run), whole, weights)
    assert {name.rpartition(".")[2] for name in load_file(alone)} == {"lora_A", "lora_B"}
    assert sum(w.numel() for w in load_file(alone).values()) < 0.25 * sum(w.numel() for w in load_file(source).values())
    tiny.assert_same(dict(read(alone).states["unet"]), load_file(whole))
    convert_file(alone, again)
    tiny.assert_same(load_file(again), load_file(whole))
    merged = tiny.ddpm_pa(Path(alone))
    assert torch.equal(drawn(merged), drawn(tiny.ddpm_pa(Path(run), init_weights=weights)))


def test_an_adapter_is_refused_beside_other_weights(run: Path, source: Path, tmp_path: Path):
    alone, other = tmp_path / "alone.safetensors", tmp_path / "other.safetensors"
    convert_file(str(run), str(alone), adapter=True)
    tiny.weights_file(other, tiny.randomised(tiny.ddpm(unet=tiny.unet_config(**tiny.SMALL)), seed=1))
    words = (f"{alone}: adapts {source}, weights of sha256 ", f"not those of {other}", "--adapted_from FILE")
    tiny.refusal(lambda: read(str(alone), source=str(other)), *words)
    tiny.refusal(lambda: convert_file(str(run), str(alone), adapter=True, adapted_from=str(other)), "was adapted from")
    copy = tmp_path / "copy.safetensors"  # the same weights in another file
    convert_file(str(source), str(copy))
    assert copy.read_bytes() != source.read_bytes()
    tiny.assert_same(dict(read(str(alone), source=str(copy)).states), dict(read(str(alone)).states))


def test_an_adapter_whose_source_is_gone(run: Path, source: Path, tmp_path: Path):
    alone, moved = tmp_path / "alone.safetensors", tmp_path / "moved.safetensors"
    convert_file(str(run), str(alone), adapter=True)
    shutil.move(source, moved)
    try:
        tiny.refusal(lambda: read(str(alone)), f"adapts {source}, which is not there", "--adapted_from FILE")
        convert_file(str(alone), str(tmp_path / "whole.safetensors"), adapted_from=str(moved))
    finally:
        shutil.move(moved, source)


def test_only_what_was_adapted_has_an_adapter(source: Path, run: Path, tmp_path: Path):
    target = str(tmp_path / "a.safetensors")
    tiny.refusal(lambda: convert_file(str(source), target, adapter=True), "trained with --model.adapt")
    tiny.refusal(lambda: convert_file(str(source), target, adapted_from=str(run)), "holds whole networks")
    tiny.refusal(lambda: convert_file(str(run), target, adapter=True, dropout=0.1), "leave out --dropout")
    assert not Path(target).exists()


# The other methods


@pytest.fixture(scope="module")
def gan(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("gan")
    tiny.trainer(folder, 1, StepCheckpoint()).fit(tiny.gan(), tiny.faces(image_size=32))
    return str(checkpoint_path(folder, 1))


def changed(module: LightningModule, before: Mapping[str, Tensor]) -> set[str]:
    """Parameters that are not what they were, by plain names."""
    now = {name.replace(ORIGINAL, ".weight"): value for name, value in module.named_parameters()}
    return {name for name, value in now.items() if name in before and not torch.equal(value, before[name])}


@pytest.mark.parametrize("method", [StyleGAN2, CDC])
def test_a_gan_trains_both_players_by_few_parameters(gan: str, tmp_path: Path, method: type[StyleGAN2]):
    """With both penalties, which differentiate twice."""
    before = torch.load(gan, weights_only=True)["state_dict"]
    module = tiny.gan(method, init_from=gan, adapt=LORA, adapt_d=Adaptation(rank=3), freeze_d=2)
    ema = EMA()
    tiny.trainer(tmp_path, 2, StepCheckpoint(), ema=ema).fit(module, tiny.faces(image_size=32))
    kept = {name for name in changed(module, before) if not name.startswith("heads.")}
    assert kept == set()
    added = dict(module.named_parameters())
    ups = {name: weight for name, weight in added.items() if name.endswith("lora_B")}
    still = {name for name, weight in ups.items() if not weight.any()}
    assert {name.split(".parametrizations")[0] for name in still} == {
        "discriminator.from_rgb", "discriminator.blocks.0.conv1",
    }  # fmt: skip
    assert len(ups) > 20
    weights = {name for name in ema.average["generator"] if name in dict(module.generator.named_parameters())}
    assert weights == {name for name, _ in module.generator.named_parameters() if "lora_" in name}
    states = content_of(tmp_path, 2)["optimizer_states"]
    known = [len(state["param_groups"][0]["params"]) for state in states]
    players = (module.generator, [module.discriminator, *([module.heads] if isinstance(module, CDC) else [])])
    assert known[0] == sum(weight.requires_grad for weight in players[0].parameters())
    assert known[1] == sum(weight.requires_grad for part in players[1] for weight in part.parameters())
    read_back = tiny.gan(init_from=str(checkpoint_path(tmp_path, 2)), init_weights="raw")
    assert torch.equal(read_back.sample(torch.arange(2)), module.sample(torch.arange(2)))
    alone = tmp_path / "alone.safetensors"
    convert_file(str(tmp_path), str(alone), "raw", adapter=True)
    tiny.assert_same(read(str(alone)).states["generator"], dict(read_back.generator.state_dict()))


def test_piti_trains_new_layers_whole_and_adapts_the_others(tmp_path: Path):
    """From a diffusion model that never had a condition."""
    module = tiny.randomised(tiny.ddpm(unet=tiny.unet_config(**tiny.SMALL)))
    source = tiny.weights_file(tmp_path / "source.safetensors", module)
    before = load_file(source)
    piti = tiny_piti.piti(init_from=str(source), piti=tiny_piti.TINY, stage=2, adapt=LORA)
    first = {name: value.clone() for name, value in piti.unet.state_dict().items()}
    tiny.trainer(tmp_path, 2, StepCheckpoint()).fit(piti, tiny_piti.pairs())
    now = piti.unet.state_dict()
    tiny.assert_same({name: value for name, value in frozen(now).items() if name in before}, before)
    new = {name for name in first if name.replace(ORIGINAL, ".weight") not in before and "lora" not in name}
    assert all(not torch.equal(now[name], first[name]) for name in new if name.endswith(".weight"))
    assert any("context_kv" in name for name in new)
    alone = tmp_path / "alone.safetensors"
    convert_file(str(tmp_path), str(alone), "raw", adapter=True)
    assert {name.removeprefix("unet.") for name in load_file(alone) if "lora_" not in name} == new
    read_back = read(str(alone)).states["unet"]
    tiny.assert_same(dict(read_back), dict(read(str(tmp_path), weights="raw").states["unet"]))


def test_piti_in_stage_1_adapts_nothing():
    tiny.refusal(lambda: PITI(init_from="a", adapt=LORA), "--model.adapt is of stage 2")


def test_a_file_of_16_bits_is_the_same_source(run: Path, source: Path, tmp_path: Path):
    """What comes with the package is written so: the hash is of the numbers."""
    half = tmp_path / "half.safetensors"
    convert_file(str(source), str(half), half=True)
    adapt(tmp_path, half, 1)
    alone, full = tmp_path / "alone.safetensors", tmp_path / "full.safetensors"
    convert_file(str(tmp_path), str(alone), adapter=True)
    save_file({name: value.float() for name, value in load_file(half).items()}, full, metadata=header(half))
    tiny.assert_same(dict(read(str(alone), source=str(full)).states), dict(read(str(alone)).states))


def header(path: Path) -> dict[str, str]:
    with safe_open(path, framework="pt") as file:
        return dict(file.metadata())
