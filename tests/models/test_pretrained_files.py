"""Files that U-Nets are read from: what is refused, and that nothing in them is run."""

import pickle

import pytest
import tiny
import torch
from safetensors.torch import save_file
from torch import Tensor

from tenshot.errors import InputError
from tenshot.models import UNet
from tenshot.models.pretrained import fill, load_adm, read_adm

ASKED = {"image_size": 16, "head_channels": 32, "attention_order": "legacy"}


@pytest.fixture
def state() -> dict[str, Tensor]:
    return tiny.public_state(UNet(tiny.unet_config()).state_dict())


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_files_are_read(state, tmp_path, suffix):
    path = tmp_path / f"weights{suffix}"
    (torch.save if suffix == ".pt" else save_file)({name: value.contiguous() for name, value in state.items()}, path)
    found = read_adm(path, **ASKED)
    assert torch.equal(found.state["encoder.stem.weight"], state["input_blocks.0.0.weight"])


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_truncated_files_are_refused(state, tmp_path, suffix):
    path = tmp_path / f"weights{suffix}"
    (torch.save if suffix == ".pt" else save_file)({name: value.contiguous() for name, value in state.items()}, path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    tiny.refusal(lambda: load_adm(path, **ASKED), str(path), "truncated")


@pytest.mark.parametrize("content", [b"", b"<!DOCTYPE html>", b"PK\x03\x04"])
def test_files_that_are_no_checkpoints_are_refused(tmp_path, content):
    path = tmp_path / "weights.pt"
    path.write_bytes(content)
    tiny.refusal(lambda: load_adm(path), str(path), "not a checkpoint" if content[:1] != b"<" else "a web page")


def test_a_missing_file_is_refused(tmp_path):
    tiny.refusal(lambda: load_adm(tmp_path / "nothing.pt"), "nothing.pt", "no such checkpoint")


@pytest.mark.parametrize("wrapped", [True, False])
@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_checkpoint_is_not_run(state, tmp_path, zipped, wrapped):
    path, trace = tmp_path / "weights.pt", tmp_path / "trace"
    content = ({"model": state} if wrapped else state) | {"extra": tiny.Bomb(trace)}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    if wrapped:
        tiny.assert_same(load_adm(path, **ASKED).state_dict(), load_adm(state, **ASKED).state_dict())
    else:
        tiny.refusal(lambda: load_adm(path, **ASKED), str(path), "1 unknown keys (extra)")
    assert not trace.exists()


def test_a_plain_pickle_is_read_and_not_run(tmp_path):
    path, trace = tmp_path / "weights.pkl", tmp_path / "trace"
    path.write_bytes(pickle.dumps({"weight": torch.zeros(2), "extra": tiny.Bomb(trace)}, protocol=2))
    tiny.refusal(lambda: load_adm(path, **ASKED), str(path), "a file whose 'extra' is a whole object")
    assert not trace.exists()


@pytest.mark.parametrize("content", [{"model": {"weight": torch.zeros(2)}}, {}, [torch.zeros(2)], torch.zeros(2)])
def test_anything_but_a_flat_dictionary_of_tensors_is_refused(tmp_path, content):
    path = tmp_path / "weights.pt"
    torch.save(content, path)
    tiny.refusal(lambda: load_adm(path), str(path), "dictionary")


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused_with_their_file(bad: float):
    network = torch.nn.Linear(2, 2)
    state = {name: value.detach().clone() for name, value in network.state_dict().items()}
    state["bias"][1] = bad
    with pytest.raises(
        InputError, match=r"x\.ckpt: 1 NaN or infinite keys \(bias\): the training that wrote it failed"
    ):
        fill(network, state, "x.ckpt")
