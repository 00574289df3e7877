"""The restricted reader gives what Python's own does, of the objects that it reads; others it leaves inert."""

import argparse
import pickle
from collections import Counter, OrderedDict, defaultdict
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tenshot.models.pretrained.unpickling import Foreign, Inert, load_pickle, load_torch

PLAIN: dict[str, Any] = {
    "words": ["text", b"\x00\xff", 3, 2.5, True, None, (1, {"a": 2})],
    "ordered": OrderedDict(b=1, a=2),
    "counted": Counter("abca"),
    "sets": [{1, 2}, frozenset({3})],
    "bytes": [bytearray(b"\x01\xfe"), bytearray()],
    "complex": 1 - 2j,
    "size": torch.Size((2, 3)),
    "device": torch.device("cpu"),
    "dtype": torch.bfloat16,
}
ARRAYS = {
    "rows": np.arange(6.0).reshape(2, 3),
    "columns": np.asfortranarray(np.arange(6).reshape(2, 3)),
    "big-endian": np.arange(3, dtype=">i4"),
    "text": np.array(["ab", "c"]),
    "none": np.zeros((0, 2), np.float32),
    "flag": np.array(True),
    "scalar": np.float64(2.5),
    "integer": np.int64(7),
}


def loaded(content: object, folder: Path, protocol: int) -> tuple[Any, list[str]]:
    path = folder / "content.pkl"
    path.write_bytes(pickle.dumps(content, protocol))
    return load_pickle(path)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("name", PLAIN)
def test_plain_objects(tmp_path: Path, name: str, protocol: int):
    found, foreign = loaded(PLAIN[name], tmp_path, protocol)
    assert found == PLAIN[name]
    assert type(found) is type(PLAIN[name])
    assert not foreign


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("name", ARRAYS)
def test_arrays_and_numbers_of_numpy(tmp_path: Path, name: str, protocol: int):
    found, foreign = loaded(ARRAYS[name], tmp_path, protocol)
    expected = pickle.loads(pickle.dumps(ARRAYS[name], protocol))
    np.testing.assert_array_equal(found, ARRAYS[name])
    np.testing.assert_array_equal(found, expected, strict=True)
    assert np.asarray(found).flags.f_contiguous == np.asarray(expected).flags.f_contiguous
    assert not foreign


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_options_of_a_program_and_a_dictionary_with_a_default(tmp_path: Path, protocol: int):
    written = {"args": argparse.Namespace(lr=0.1, size=256), "losses": defaultdict(list, a=[1])}
    (tmp_path / "3.pkl").write_bytes(pickle.dumps(written, protocol, fix_imports=False))
    found, foreign = loaded(written, tmp_path, protocol)
    assert vars(load_pickle(tmp_path / "3.pkl")[0]["args"]) == vars(found["args"])
    assert vars(found["args"]) == {"lr": 0.1, "size": 256}
    assert isinstance(found["args"], argparse.Namespace)
    assert found["losses"] == {"a": [1]}
    assert {name.partition(".")[2] for name in foreign} <= {"list", "object"}


@pytest.mark.parametrize("zipped", [True, False])
def test_tensors(tmp_path: Path, zipped: bool):
    whole, marked = torch.arange(12.0).view(3, 4), nn.Parameter(torch.ones(2))
    marked.learning_rate = 0.1  # type: ignore[attr-defined]
    written = {
        "part": whole[1:, ::2], "turned": whole.T, "scalar": torch.tensor(2), "none": torch.empty(0, 3),
        "half": whole.bfloat16(), "weight": nn.Parameter(whole.clone()),
        "marked": marked,
        "buffer": torch.nn.Buffer(whole.clone()), "state": nn.Linear(2, 2).state_dict(),
    }  # fmt: skip
    path = tmp_path / "content.pt"
    torch.save(written, path, _use_new_zipfile_serialization=zipped)
    for mmap in {zipped, False}:
        found, foreign = load_torch(path, mmap)
        assert set(foreign) <= {"torch.Tensor"}  # that a buffer is a kind of
        state = found.pop("state")
        torch.testing.assert_close(dict(state), dict(written["state"]), rtol=0, atol=0)
        for name, value in found.items():
            torch.testing.assert_close(value, written[name].detach(), rtol=0, atol=0)
            assert value.stride() == written[name].stride()


def test_what_a_file_makes_of_a_class_stays_in_that_file(tmp_path: Path):
    """A pickle may set attributes of what it is given."""
    for module, name in ((b"argparse", b"Namespace"), (b"some_program", b"Args")):
        path = tmp_path / "content.pkl"
        path.write_bytes(b"\x80\x04c" + module + b"\n" + name + b"\nN}\x8c\x05marksK\x01s\x86b.")
        with suppress(TypeError):
            load_pickle(path)
        assert not hasattr(argparse.Namespace, "marks")
        assert not hasattr(Inert, "marks")


@pytest.mark.parametrize("state", [b"}", b"N}\x86", b"N}\x8c\x09_functionK\x01s\x86"])
def test_a_file_cannot_change_a_function(tmp_path: Path, state: bytes):
    path = tmp_path / "content.pkl"
    path.write_bytes(b"\x80\x04ccollections\nOrderedDict\n" + state + b"b.")
    with pytest.raises(Foreign, match="it changes a function"):
        load_pickle(path)


class Call:
    """A call, and the state that is then set."""

    def __init__(self, function: object, arguments: tuple[object, ...], state: object = None) -> None:
        self.made = function, arguments, state

    def __reduce__(self) -> Any:
        return self.made


def array(shape: tuple[int, ...], dtype: np.dtype, content: object) -> Call:
    made = np.zeros(0).__reduce__()
    return Call(made[0], made[1], (1, shape, dtype, False, content))


@pytest.mark.parametrize(
    ("written", "said"),
    [
        (np.array([None, 1]), "it has an array of O8"),
        (np.zeros(1, [("a", "i4")]), "it has an array of V4"),
        (array((3,), np.dtype("f8"), bytes(16)), "an array in it is larger than its numbers"),
        (array((3,), np.dtype("f8"), bytes(32)), "an array in it is larger than its numbers"),
        (array((2,), np.dtype("f8"), [0] * 16), "an array in it is larger than its numbers"),
        (Call(torch._utils._rebuild_tensor_v2, (3, 0, (1,), (1,), False, None)), "a int stands where the numbers"),
        (Call(torch._utils._rebuild_tensor_v2, (b"", 0, (1,), (1,), False, None)), "a bytes stands where the numbers"),
        (Call(torch.storage._load_from_bytes, (b"torn",)), "torn are the numbers of a tensor"),
    ],
)
@pytest.mark.parametrize("protocol", [2, 4])
def test_what_cannot_be_is_refused(tmp_path: Path, written: object, said: str, protocol: int):
    with pytest.raises(Foreign, match=said):
        loaded(written, tmp_path, protocol)


def test_tensors_of_the_first_versions_of_torch(tmp_path: Path):
    numbers = torch.arange(4.0)
    old = Call(torch._utils._rebuild_tensor, (numbers._typed_storage(), 1, (2,), (2,)))
    assert torch.equal(loaded(old, tmp_path, 2)[0], torch.tensor([1.0, 3.0]))


@pytest.mark.parametrize(
    ("offset", "size", "stride"),
    [(4, (1,), (1,)), (3, (1, 2), (9, 1)), (0, (2,), (-1,)), (0, (-2,), (1,)), (5, (), ())],
)
def test_a_tensor_lies_within_its_numbers(tmp_path: Path, offset: int, size: tuple[int, ...], stride: tuple[int, ...]):
    numbers = torch.arange(4.0)._typed_storage()
    with pytest.raises(Foreign, match="a tensor in it is larger than its numbers"):
        loaded(Call(torch._utils._rebuild_tensor_v2, (numbers, offset, size, stride, False, None)), tmp_path, 2)


def test_types_of_numpy_are_none_of_torch(tmp_path: Path):
    found, foreign = loaded({"type": np.float32}, tmp_path, 4)
    assert issubclass(found["type"], Inert)
    assert foreign == ["numpy.float32"]


class Elsewhere:
    """A class of a program that is not here, with all that a pickle can do to an object."""

    def __init__(self) -> None:
        self.size = 3


class Listed(list):  # type: ignore[type-arg]
    pass


class Named(dict):  # type: ignore[type-arg]
    pass


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(
    "made", [Elsewhere, lambda: Listed([1, 2]), lambda: Named(a=1)], ids=["object", "list", "dict"]
)
def test_objects_of_other_classes_are_inert_and_named(tmp_path: Path, made: Any, protocol: int):
    found, foreign = loaded({"args": made(), "step": 3}, tmp_path, protocol)
    assert isinstance(found["args"], Inert)
    assert found["step"] == 3
    assert any(name.startswith(f"{__name__}.") for name in foreign)


def test_an_inert_object_can_be_called_and_does_nothing(tmp_path: Path):
    path = tmp_path / "content.pkl"
    path.write_bytes(b"\x80\x04cos\nsystem\n)R\x8c\x04echo\x85R.")
    found, foreign = load_pickle(path)
    assert isinstance(found, Inert)
    assert foreign == ["os.system"]


def test_bytes_as_python_2_wrote_them(tmp_path: Path):
    path = tmp_path / "content.pkl"
    path.write_bytes(pickle.dumps({"a": b"\xff\x00"}, 2))
    assert load_pickle(path)[0] == {"a": b"\xff\x00"}
    path.write_bytes(b"\x80\x02c_codecs\nencode\nX\x02\x00\x00\x00\xc3\xa9X\x05\x00\x00\x00utf-8\x86R.")
    assert load_pickle(path)[0] == "é".encode()
