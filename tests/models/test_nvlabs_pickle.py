"""Pickles of NVlabs' StyleGAN2-ADA code: what they hold is read, and nothing in them is ever run."""

import os
import pickle
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import nvlabs_files as files
import pytest
import tiny
import torch
from nvlabs_files import Call

from tenshot.models.pretrained import read_checkpoint, read_stylegan2
from tenshot.models.pretrained.nvlabs_pickle import PickledNetwork, networks_in
from tenshot.models.pretrained.unpickling import Inert

STATE = {
    "b4.const": torch.arange(12.0).view(3, 4)[1:],
    "b4.conv1.noise_strength": torch.tensor(2.0),
    "b4.w_avg": torch.ones(2),
}


def read_nvlabs_pickle(path: Path) -> dict[str, PickledNetwork]:
    return networks_in(read_checkpoint(path))


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_parameters_and_buffers_are_read_and_the_source_is_not_run(tmp_path: Path, protocol: int):
    network = files.network("Generator", STATE, z_dim=2, synthesis_kwargs=files.EasyDict(channel_base=64))
    extra = {"training_set_kwargs": files.EasyDict(path="data"), "augment_pipe": None, "D": None}
    path = files.dump({"G_ema": network} | extra, tmp_path / "network.pkl", protocol)

    found = read_nvlabs_pickle(path)

    assert found.keys() == {"G_ema"}
    assert found["G_ema"].class_name == "Generator"
    assert found["G_ema"].arguments == {"z_dim": 2, "synthesis_kwargs": {"channel_base": 64}}
    assert found["G_ema"].state.keys() == STATE.keys()
    for name, value in STATE.items():
        assert torch.equal(found["G_ema"].state[name], value), name


def test_weights_in_channels_last_memory_and_numbers_of_numpy(tmp_path: Path):
    weight = torch.randn(2, 3, 3, 3).to(memory_format=torch.channels_last)
    network = files.network("Generator", {"weight": weight})
    network.state["gain"] = np.float64(3)
    path = files.dump({"G": network}, tmp_path / "network.pkl")
    assert torch.equal(read_nvlabs_pickle(path)["G"].state["weight"], weight)


class Trap:
    """Code in different places of a file. Each creates the file ``trace`` when pickle reads it."""

    def __init__(self, trace: Path) -> None:
        self.command = f"touch {trace}"
        self.system = Call(os.system, self.command)

    def beside_the_networks(self) -> object:
        return {"more": self.system, "G_ema": files.network("Generator", STATE)}

    def as_the_whole_file(self) -> object:
        return self.system

    def in_a_parameter(self) -> object:
        network = files.network("Generator", STATE)
        network.state["_parameters"]["weight"] = self.system
        return {"G_ema": network}

    def in_the_name_of_its_class(self) -> object:
        network = files.network("Generator", STATE)
        network.class_name = self.system  # type: ignore[assignment]
        return {"G_ema": network}

    def in_the_arguments_of_a_tensor(self) -> object:
        return {"G_ema": Call(torch._utils._rebuild_tensor_v2, self.system, 0, (1,), (1,), False, None)}

    def evaluated(self) -> object:
        return {"G_ema": Call(eval, f"__import__('os').system({self.command!r})")}

    def in_the_numbers_of_a_tensor(self) -> object:
        return {"G_ema": Call(torch.storage._load_from_bytes, files.storage_bytes(self.system))}


TRAPS = [name for name in vars(Trap) if not name.startswith("_")]


@pytest.mark.parametrize("trap", TRAPS)
def test_code_is_not_run(tmp_path: Path, trap: str):
    """What stands where no network needs it becomes inert, elsewhere the file is refused in one line."""
    trace = tmp_path / "trace"
    path = files.dump(getattr(Trap(trace), trap)(), tmp_path / "network.pkl")
    with suppress(Exception):
        files.read_unrestricted(path)
    assert trace.exists()  # it is a trap
    trace.unlink()

    tiny.refusal(lambda: read_stylegan2(path), str(path))
    assert not trace.exists()


@pytest.mark.parametrize(
    "name",
    ["torch.load", "torch.hub.load", "builtins.getattr", "builtins.__import__", "torch_utils.persistence.exec",
     "antigravity.fly", "torch._dynamo", "builtins.eval"],
)  # fmt: skip
def test_names_outside_the_table_are_inert_and_no_module_is_imported_for_them(tmp_path: Path, name: str):
    module, _, member = name.rpartition(".")
    path = tmp_path / "network.pkl"
    called = b"\x80\x03}X\x01\x00\x00\x00ac" + f"{module}\n{member}\n".encode() + b")Rs."
    path.write_bytes(called)
    assert isinstance(read_checkpoint(path)["a"], Inert)
    assert not {"torch_utils.persistence", "antigravity"} & sys.modules.keys()


def test_a_pickle_where_numbers_belong_is_refused_and_not_run(tmp_path: Path):
    trace = tmp_path / "trace"
    numbers = pickle.dumps(Call(os.system, f"touch {trace}"), protocol=2)
    path = files.dump({"G": Call(torch.storage._load_from_bytes, numbers)}, tmp_path / "network.pkl")
    tiny.refusal(lambda: read_nvlabs_pickle(path), str(path), "nothing of it was run")
    assert not trace.exists()


def test_by_another_name_it_is_still_not_run(tmp_path: Path):
    trace = tmp_path / "trace"
    path = files.dump(Trap(trace).as_the_whole_file(), tmp_path / "network.pt")
    tiny.refusal(lambda: read_stylegan2(path), str(path), "an object of a class that is not read")
    assert not trace.exists()


def test_a_tensor_cannot_claim_more_numbers_than_it_has(tmp_path: Path):
    numbers = Call(torch.storage._load_from_bytes, files.storage_bytes(torch.ones(4)._typed_storage()))
    for size, stride, offset in (((5,), (1,), 0), ((2, 2), (3, 1), 0), ((4,), (1,), 1), ((2,), (1,), -1)):
        tensor = Call(torch._utils._rebuild_tensor_v2, numbers, offset, size, stride, False, None)
        network = files.network("Generator", {})
        network.state["_parameters"]["weight"] = tensor
        path = files.dump({"G": network}, tmp_path / "network.pkl")
        tiny.refusal(lambda path=path: read_nvlabs_pickle(path), "larger than its numbers")


@pytest.mark.parametrize("arguments", [[1], "words", None])
def test_arguments_that_are_no_dictionary_are_none(tmp_path: Path, arguments: object):
    network = files.network("Generator", STATE)
    network.state["_init_kwargs"] = arguments
    assert read_nvlabs_pickle(files.dump({"G": network}, tmp_path / "network.pkl"))["G"].arguments == {}


def test_a_network_inside_itself_is_refused(tmp_path: Path):
    network = files.network("Generator", STATE)
    network.state["_modules"]["again"] = holder = files.Persistent("Part")
    holder.state["_modules"] = network.state["_modules"]
    path = files.dump({"G": network}, tmp_path / "network.pkl")
    tiny.refusal(lambda: read_stylegan2(path), str(path))


@pytest.mark.parametrize("inside", [{"weight": 3}, {"weight": torch.ones(2)}])
def test_something_else_where_numbers_belong(tmp_path: Path, inside: object):
    path = files.dump(
        {"G": Call(torch.storage._load_from_bytes, files.storage_bytes(inside))}, tmp_path / "network.pkl"
    )
    tiny.refusal(lambda: read_nvlabs_pickle(path), "a dict stands where the numbers of a tensor belong")


@pytest.mark.parametrize("content", [{}, {"G": None}, {"weight": 3}, [1, 2], "words"])
def test_a_pickle_of_something_else(tmp_path: Path, content: object):
    path = files.dump(content, tmp_path / "network.pkl")
    tiny.refusal(lambda: read_stylegan2(path), str(path))


def test_a_torn_file_and_one_that_is_no_pickle(tmp_path: Path):
    path = files.dump({"G_ema": files.network("Generator", STATE)}, tmp_path / "network.pkl")
    path.write_bytes(path.read_bytes()[:-300])
    tiny.refusal(lambda: read_nvlabs_pickle(path), str(path), "truncated", "copy or download it again")
    path.write_bytes(b"<!DOCTYPE html>")
    tiny.refusal(lambda: read_stylegan2(path), str(path))


def test_a_network_of_the_tensorflow_code_is_told_what_to_do(tmp_path: Path):
    path = tmp_path / "network.pkl"
    path.write_bytes(b"\x80\x03cdnnlib.tflib.network\nNetwork\n).")
    tiny.refusal(lambda: read_nvlabs_pickle(path), str(path), "TensorFlow", "legacy.py")
