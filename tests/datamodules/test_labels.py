"""What a ``dataset.json`` tells, and when it tells nothing."""

import json

import pytest

from tenshot.datamodules.labels import Classes, classes_in

NAMES = ["cat/0.png", "cat/1.png", "dog/0.png"]


def labels(**numbers: int) -> bytes:
    return json.dumps({"labels": [[name, number] for name, number in numbers.items()]}).encode()


def told(files: dict[str, bytes], names: list[str] = NAMES) -> Classes:
    found = classes_in(files, names, "set.zip: ")
    assert found is not None
    return found


@pytest.mark.parametrize("turned", [False, True])
def test_of_several_the_same_one_counts_in_whatever_order_they_come(turned: bool):
    files = {"a/b/dataset.json": labels(**{"0.png": 7}), "dataset.json": labels(**{"a/b/0.png": 5})}
    found = told(dict(reversed(files.items())) if turned else files, ["a/b/0.png", "a/b/1.png"])
    assert (found.title, found.by_name) == ("set.zip: a/b/dataset.json", {"a/b/0.png": 7})


def test_a_file_in_a_folder_beside_others_tells_nothing():
    assert classes_in({"cat/dataset.json": labels(**{"0.png": 1}), "labels.csv": b""}, NAMES, "") is None


@pytest.mark.parametrize("written", ["cat/0.png", "./cat/0.png", "cat\\0.png", ".\\cat\\0.png"])
def test_names_as_other_systems_write_them(written: str):
    assert told({"dataset.json": labels(**{written: 2})}).by_name == {"cat/0.png": 2}


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        *((content, "has no list of labels as StyleGAN2-ADA writes it") for content in (
            b"", b"torn", b"[]", b"3", b"[" * 100_000, b"{}", b'{"labels": 3}', b'{"labels": {"cat/0.png": 1}}',
            b'{"labels": ["ab"]}', b'{"labels": [["cat/0.png"]]}', b'{"labels": [["cat/0.png", 1, 2]]}',
            b'{"labels": [[0, 1]]}', b'{"labels": [["cat/0.png", 1], "ab"]}',
        )),
        (b'{"labels": null}', "says that the images have no labels"),
        (b'{"labels": []}', "says that the images have no labels"),
        *((b'{"labels": [["x", %s]]}' % number, f"labels x with {number.decode()}, not with the number of a class")
          for number in (b"true", b"1.5", b"-1", b'"1"', b"1000000", b"null")),
    ],
)  # fmt: skip
def test_a_file_that_tells_no_classes_says_why(content: bytes, problem: str):
    found = told({"dataset.json": content})
    assert (found.problem, found.by_name) == (problem, {})


def test_classes_begin_with_0_and_may_be_a_million():
    assert told({"dataset.json": labels(**{"a": 0, "b": 999_999})}).by_name == {"a": 0, "b": 999_999}
