"""Classes in a file beside the images: the ``dataset.json`` of StyleGAN2-ADA's data sets."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

__all__ = ["DATASET_JSON", "Classes", "classes_in"]

DATASET_JSON = "dataset.json"
MOST = 1_000_000  # classes


@dataclass(frozen=True)
class Classes:
    """What a ``dataset.json`` tells.

    Args:
        title: How messages name the file.
        by_name: Number of the class of an image, by the name of the image.
        problem: Why it tells no classes; empty if it does.
    """

    title: str
    by_name: Mapping[str, int]
    problem: str = ""


def classes_in(files: Mapping[str, bytes], names: Sequence[str], where: str) -> Classes | None:
    """What the ``dataset.json`` tells that lies in a folder with all images; None where there is no such file.

    Args:
        files: Contents of the label files, by name.
        names: Of the images.
        where: The folder or archive, for messages.
    """
    for name in sorted(files):
        folder, _, base = f"/{name}".rpartition("/")
        folder = f"{folder}/".removeprefix("/")
        if base == DATASET_JSON and all(image.startswith(folder) for image in names):
            title = f"{where}{name}"
            try:
                return Classes(title, {folder + image: number for image, number in _numbers(files[name])})
            except _Unusable as unusable:
                return Classes(title, {}, str(unusable))
    return None


class _Unusable(Exception):
    """Says why."""


def _numbers(content: bytes) -> Iterable[tuple[str, int]]:
    try:
        labels = json.loads(content)["labels"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise _Unusable("has no list of labels as StyleGAN2-ADA writes it") from None
    if not labels:
        raise _Unusable("says that the images have no labels")
    if not isinstance(labels, list) or not all(
        isinstance(one, list) and len(one) == 2 and isinstance(one[0], str) for one in labels
    ):
        raise _Unusable("has no list of labels as StyleGAN2-ADA writes it")
    for image, number in labels:
        if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number < MOST:
            raise _Unusable(f"labels {image} with {json.dumps(number)[:40]}, not with the number of a class")
    return ((image.replace("\\", "/").removeprefix("./"), number) for image, number in labels)
