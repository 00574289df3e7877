"""Every reader, with keys in turn dropped, renamed, made a scalar or transposed: one line that names keys."""

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import nvlabs_files
import pytest
import stylegan2_files
import tiny
import torch
from tiny import public_state
from torch import Tensor

from tenshot.callbacks import StepCheckpoint
from tenshot.checkpoints import STYLEGAN2, UNET
from tenshot.checkpoints import read as read_ours
from tenshot.errors import InputError
from tenshot.models import UNet, UNetClassifier, UNetConfig
from tenshot.models.pretrained import load_adm, load_adm_classifier, load_stylegan2

State = Mapping[str, Any]
ADM = UNetConfig(image_size=16, channels=32, channel_mult=(1, 2), num_res_blocks=1, attention_resolutions=(8,),
                 head_channels=32, num_classes=3)  # fmt: skip
TOLD = {"image_size": 16, "head_channels": 32, "attention_order": "legacy"}
CLASSIFIER = UNetConfig(image_size=16, channels=32, channel_mult=(1, 2), num_res_blocks=1, attention_resolutions=(8,),
                        head_channels=32, out_channels=5)  # fmt: skip


def of_each_kind(state: State) -> list[str]:
    """The first of those keys that differ in numbers alone, and whose tensors have as many axes."""
    kinds: dict[Any, str] = {}
    for key, value in state.items():
        kinds.setdefault((re.sub(r"\d+", "0", key), value.dim() if isinstance(value, Tensor) else None), key)
    return list(kinds.values())


def broken(state: State, numbers: bool = True, every: int = 1) -> Iterator[tuple[str, State]]:
    """The dictionary with keys of every so many kinds in turn broken in five ways."""
    for key in of_each_kind(state)[::every]:
        value = state[key]
        rest = {name: other for name, other in state.items() if name != key}
        yield f"{key} dropped", rest
        yield f"{key} renamed", rest | {f"{key}_old": value}
        if not isinstance(value, Tensor):
            continue
        if value.numel() > 1:  # else it is one already
            yield f"{key} a scalar", rest | {key: torch.tensor(1.0)}
        if numbers:
            yield f"{key} a number", rest | {key: 3}
        if value.dim() > 1 and value.shape[0] != value.shape[1] and min(value.shape[:2]) > 1:  # else the same numbers
            yield f"{key} transposed", rest | {key: value.transpose(0, 1)}


def complaints(
    read: Callable[[State], object],
    state: State,
    optional: Callable[[str], bool] = lambda how: False,
    numbers: bool = True,
    every: int = 1,
) -> None:
    """Every breakage is one line with a key in it, and not a word of Python."""
    silent = []
    for how, content in broken(state, numbers, every):
        try:
            read(content)
        except InputError as error:
            message = str(error)
            assert "\n" not in message, how
            assert any(
                word in message
                for word in ("keys (", "(g", "(d", "has no", "is a ", "entry", "without ", "channels wide")
            ), (how, message)
            continue
        silent.append(how)
    assert [how for how in silent if not optional(how)] == []


@pytest.fixture(scope="module")
def adm() -> State:
    torch.manual_seed(0)
    return public_state(UNet(ADM).state_dict())


@pytest.fixture(scope="module")
def classifier() -> State:
    torch.manual_seed(0)
    theirs = (("pool.proj_out", "out.2.c_proj"), ("pool.qkv", "out.2.qkv_proj"), ("pool.", "out.2."))
    state = public_state(UNetClassifier(CLASSIFIER).state_dict())
    for ours, name in theirs:
        state = {key.replace(ours, name) if key.startswith(ours) else key: value for key, value in state.items()}
    return state


def test_adm(adm: State):
    # without its labels it is a whole network of no classes
    complaints(lambda state: load_adm(state, **TOLD), adm, lambda how: how == "label_emb.weight dropped")


def test_adm_classifiers(classifier: State):
    complaints(lambda state: load_adm_classifier(state, num_res_blocks=1, head_channels=32), classifier)


@pytest.mark.parametrize("part", ["g_ema", "d"])
def test_stylegan2_of_rosinality(part: str):
    content = {"g_ema": stylegan2_files.generator_state(), "d": stylegan2_files.discriminator_state()}
    lacks = ("noises.", "kernel")  # drawn or constant
    complaints(
        lambda state: load_stylegan2(content | {part: state}),
        content[part],
        lambda how: "dropped" in how and any(word in how for word in lacks),
    )


@pytest.mark.parametrize("part", ["G_ema", "D"])
def test_stylegan2_of_nvlabs(tmp_path: Path, part: str):
    states = {
        "G_ema": nvlabs_files.nvlabs_state(stylegan2_files.generator_state(), torch.zeros(stylegan2_files.DIM)),
        "D": nvlabs_files.nvlabs_discriminator(stylegan2_files.discriminator_state()),
    }
    kinds = {"G_ema": "Generator", "D": "Discriminator"}

    def read(state: State) -> object:
        networks = {name: nvlabs_files.network(kinds[name], states[name] if name != part else state) for name in states}
        return load_stylegan2(nvlabs_files.dump(networks, tmp_path / "network.pkl"))

    lacks = ("noise_const", "resample_filter", "w_avg")
    complaints(read, states[part], lambda how: "dropped" in how and any(word in how for word in lacks), numbers=False)


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> State:
    """A checkpoint of few weights, none of which is like another but in name."""
    folder = tmp_path_factory.mktemp("ours")
    module = tiny.ddpm(unet=tiny.unet_config(channel_mult=(1,), attention_resolutions=()))
    tiny.trainer(folder, 1, StepCheckpoint()).fit(module, tiny.faces(num_images=4))
    content: State = torch.load(folder / "checkpoints" / "step=00000001.ckpt", weights_only=True)
    return content


@pytest.mark.parametrize("weights", ["ema", "raw"])
def test_checkpoints_of_ours(ours: State, tmp_path: Path, weights: Any):
    path = tmp_path / "broken.ckpt"

    def read(changed: State) -> object:
        torch.save(changed, path)
        found = read_ours(str(path), UNET, weights)
        return found.fill("unet", UNet(found.config))

    needed = {"pytorch-lightning_version", "tenshot", "state_dict" if weights == "raw" else "ema"}
    complaints(read, ours, lambda how: how.split()[0] not in needed or how.startswith("ema"))
    inside = ours["state_dict"] if weights == "raw" else ours["ema"]["weights"]["unet"]
    short = {name: value for name, value in ours.items() if name != "optimizer_states"}

    def within(state: State) -> object:
        if weights == "raw":
            return read(short | {"state_dict": state})
        return read(short | {"state_dict": {}, "ema": ours["ema"] | {"weights": {"unet": state}}})

    complaints(within, inside, every=4)  # all are compared by the same code


def test_checkpoints_of_our_gans(tmp_path: Path):
    module = tiny.gan()
    path = tmp_path / "broken.ckpt"
    words = {"method": "StyleGAN2", "stylegan2": {"image_size": 32, "channel_base": 256, "max_channels": 16,
                                                  "latent_dim": 8, "mapping_layers": 2}}  # fmt: skip
    state = {name: value for name, value in module.state_dict().items() if name.startswith(("gen", "disc"))}
    about = {"pytorch-lightning_version": "2.6", "global_step": 1, "tenshot": words}

    def read(changed: State) -> object:
        torch.save(about | {"state_dict": changed}, path)
        return read_ours(str(path), STYLEGAN2, "raw")

    complaints(read, state, every=4)
