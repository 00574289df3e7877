"""Labels of public data sets: which files tell them, and what is said of those that do not."""

import json
import logging
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from image_sets import WANTED, folder, png, tarred, zipped

from tenshot.datamodules import FewShot, ImageFolder
from tenshot.datamodules.reading import read_image
from tenshot.errors import InputError

NAMES = [f"0000{number % 2}/img{number:08d}.png" for number in range(4)]
LABELS = [10, 2, 10, 0]


def ada(labels: object, names: list[str] = NAMES) -> dict[str, bytes]:
    return {name: png(number) for number, name in enumerate(names)} | {
        "dataset.json": json.dumps({"labels": labels}).encode()
    }


@pytest.mark.parametrize("layout", [folder, zipped, tarred])
@pytest.mark.parametrize("below", ["", "ffhq/"])
def test_dataset_json_tells_the_classes(tmp_path: Path, layout: Callable[..., Path], below: str):
    """The number in the file is the class, as in StyleGAN2-ADA; folders are none, and a class may have no images."""
    inside = ada([[name, label] for name, label in zip(NAMES, LABELS, strict=True)])
    root = layout(tmp_path, {below + name: content for name, content in inside.items()})
    module = ImageFolder(str(root), 32, labels=True, num_workers=0)
    assert module.num_classes == 11
    assert module.class_names == [str(number) for number in range(11)]
    batch = module.train_source.read(range(4))
    found = {(int(image.long().sum()), int(label)) for image, label in zip(batch["image"], batch["label"], strict=True)}
    for number, name in enumerate(NAMES):
        (tmp_path / "one.png").write_bytes(inside[name])
        assert (int(read_image(tmp_path / "one.png", 32).long().sum()), LABELS[number]) in found


BAD_LABELS: dict[str, tuple[object, str]] = {
    "none": (None, "dataset.json says that the images have no labels"),
    "vectors": ([[NAMES[0], [0.5, 1.0]]], "not with the number of a class"),
    "negative": ([[NAMES[0], -1]], "labels 00000/img00000000.png with -1, not with the number of a class"),
    "another kind": ({"images": []}, "has no list of labels as StyleGAN2-ADA writes it"),
    "missing": ([[name, 0] for name in NAMES[:3]], "00001/img00000003.png has no class in"),
}


@pytest.mark.parametrize("case", BAD_LABELS)
def test_labels_that_cannot_be_used_are_one_line(tmp_path: Path, case: str):
    labels, message = BAD_LABELS[case]
    root = zipped(tmp_path, ada(labels))
    assert len(ImageFolder(str(root), 32, num_workers=0).train_source) == 4  # of no matter without labels
    with pytest.raises(InputError) as caught:
        ImageFolder(str(root), 32, labels=True, num_workers=0).setup("fit")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_labels_that_change_are_read_anew(tmp_path: Path):
    root = folder(tmp_path, ada([[name, 0] for name in NAMES]))
    assert ImageFolder(str(root), 32, labels=True).num_classes == 1
    (root / "dataset.json").write_bytes(ada([[name, 5] for name in NAMES])["dataset.json"])
    os.utime(root / "dataset.json", (1e9, 1e9))
    assert ImageFolder(str(root), 32, labels=True).num_classes == 6


def said(caplog: pytest.LogCaptureFixture, module: ImageFolder | FewShot) -> str:
    caplog.clear()
    with caplog.at_level(logging.INFO):
        module.setup("fit")
    return caplog.text


def test_label_files_that_are_not_used_are_said(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    root = zipped(tmp_path, ada([[name, 3] for name in NAMES]))
    assert f"{root}: dataset.json tells 4 classes; they are not used (--data.labels true takes them)" in said(
        caplog, ImageFolder(str(root), 32, num_workers=0)
    )
    assert "not used" not in said(caplog, ImageFolder(str(root), 32, labels=True, num_workers=0))

    root = folder(tmp_path, {name: png() for name in WANTED} | {"metadata.jsonl": b"", "cat/labels.csv": b""})
    message = f"{root}/cat/labels.csv and 1 more: labels in there are not used"
    assert message in said(caplog, ImageFolder(str(root), 32, labels=True, num_workers=0))
    assert "its labels are not used" in said(caplog, FewShot(str(root), image_size=32))

    shard = tarred(tmp_path, {"0.png": png(), "0.cls": b"3", "1.png": png(), "1.cls": b"4"})
    assert f"{shard}: .cls files tells 2 classes; they are not used" in said(caplog, ImageFolder(str(shard), 32))
