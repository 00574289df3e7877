"""``tenshot prepare``: bring all images of a data set to one size, once, by a published convention."""

import json
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import Literal, NamedTuple, cast

from jsonargparse import auto_cli
from PIL import Image
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

from tenshot.cli.parser import Parser
from tenshot.cli.prepare_output import Output, only_writer, output_at
from tenshot.datamodules.conventions import CONVENTIONS
from tenshot.datamodules.index import ImageIndex, open_index
from tenshot.datamodules.labels import DATASET_JSON
from tenshot.datamodules.reading import MOST_PIXELS, ImageError, opened, require_size
from tenshot.errors import InputError

__all__ = ["prepare", "prepare_images"]

Settings = Mapping[str, str | int | None]

AT_A_TIME = 512  # images handed to the workers before the first of them is written


class Refused(NamedTuple):
    """An image left out: its number, the kind of reason and the whole of it."""

    number: int
    kind: str
    reason: str


def prepare_images(
    source: str,
    output: str,
    image_size: int | None = None,
    convention: Literal["adm", "cdc", "piti", "piti_condition", "plain"] = "adm",
    workers: int | None = None,
    shard_size: int = 10000,
    max_pixels: int = MOST_PIXELS,
) -> None:
    """Crop and resize the images of a data set once, so that training only has to decode them.

    OUTPUT is a folder of PNGs in the folders of SOURCE; with the ending .zip or .tar it is archives, which --data
    ImageFolder reads as they are. A run that was stopped goes on with the same command. prepare_report.json, in the
    folder or beside the archives, lists the images that cannot be used, and why. Where SOURCE has its classes as
    numbers, OUTPUT has a dataset.json with the same numbers, one an archive.

    Args:
        source: Folder of images, a .zip or .tar of them, a folder of such archives, or a pattern of them.
        output: What to write: a folder, or a name ending in .zip or .tar.
        image_size: Height and width of the images.
        convention: adm (halved by box averages, then bicubic, centre crop), cdc (Lanczos, centre crop), piti (squashed
            to a square, bicubic), piti_condition (squashed without mixing colours), or plain (its own size).
        workers: Processes that decode and encode; by default one a core.
        shard_size: Source images in one archive; of several archives, each has its number in its name.
        max_pixels: An image with more pixels than this is refused, before it is decoded.

    Raises:
        InputError: nothing to read, nowhere to write, or all images are refused.
    """
    if convention == "plain" and image_size is not None:
        raise InputError("--image_size does not go with --convention plain, which keeps sizes: drop one")
    if convention != "plain" and image_size is None:
        raise InputError("--image_size is not set: give the side of the images in pixels")
    workers = len(os.sched_getaffinity(0)) if workers is None else workers
    for option, value in (
        ("image_size", image_size),
        ("workers", workers),
        ("shard_size", shard_size),
        ("max_pixels", max_pixels),
    ):
        if value is not None and value < 1:
            raise InputError(f"--{option} is {value}: choose at least 1")
    if Path(output).resolve().is_relative_to(Path(source).resolve()):
        raise InputError(f"{output} lies in {source}: choose a place outside, or it would be read as a source too")
    index = open_index(source, "SOURCE")
    labels = _labels_to_write(index)
    target = output_at(output, output_names(index), shard_size, labels)
    settings: Settings = {
        "source": source, "digest": index.digest, "convention": convention, "image_size": image_size,
        "shard_size": shard_size if target.path.suffix else None, "pictures": len(index),
        **({} if labels is None else {"labels": DATASET_JSON}),
    }  # fmt: skip
    try:
        with only_writer(target):
            refused = _fill(target, index, settings, workers, max_pixels)
    except BrokenProcessPool:
        raise InputError(
            "a worker process was killed, perhaps for want of memory: run the same command again with fewer --workers"
        ) from None
    except KeyboardInterrupt:
        raise InputError("stopped: run the same command again to go on") from None
    except OSError as error:
        raise InputError(
            f"{output} cannot be written ({error.strerror or error}): free space or choose another place, and run again"
        ) from None
    written = len(index) - len(refused)
    if not written:
        raise InputError(
            f"none of the {len(index)} images in {source} can be used, see {target.report}: {refused[0].reason}"
        )
    size = f", {image_size} px" if image_size else ""
    print(f"{output}: {written} of {len(index)} images{size}, {convention}")
    if refused:
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(Counter(one.kind for one in refused).items()))
        print(f"refused {len(refused)} ({kinds}): {target.report} says why")


def output_names(index: ImageIndex) -> list[str]:
    """The names of the PNGs: those of the source, in a folder of the class where only a file beside it tells that.

    Where two would be the same (``a.jpg`` and ``a.png``), the later get a number.
    """
    taken: set[str] = set()
    names = []
    for row in range(len(index)):
        name = PurePosixPath(index.name(row).removeprefix(index.prefix)).with_suffix("")
        label = int(index.entries["label"][row])
        if label >= 0 and (len(name.parts) == 1 or name.parts[0] != index.classes[label]):
            name = _folder_of(index.classes[label]) / name
        candidate, number = f"{name}.png", 2
        while candidate in taken:
            candidate, number = f"{name}-{number}.png", number + 1
        taken.add(candidate)
        names.append(candidate)
    return names


def _folder_of(name: str) -> str:
    return name.replace("/", "_").strip(".")


def _labels_to_write(index: ImageIndex) -> list[int] | None:
    """The class numbers, where class folders, which are numbered in sorted order, would give others."""
    folders = [_folder_of(name) for name in index.classes]
    numbered = index.labels_from.endswith(DATASET_JSON) or folders != sorted(folders)
    if not index.labels_from or index.labels_problem or not numbered:
        return None
    return [int(label) for label in index.entries["label"]]


def _fill(target: Output, index: ImageIndex, settings: Settings, workers: int, max_pixels: int) -> list[Refused]:
    """Write what is missing; the images that are refused."""
    refused = {number: Refused(number, *rest) for number, *rest in _resumed(target, settings)}
    convention, size = str(settings["convention"]), cast(int | None, settings["image_size"])
    start = partial(_start_worker, index, convention, size, max_pixels)
    bar = Progress(BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=Console(stderr=True))
    with ProcessPoolExecutor(workers, initializer=start) as pool, bar as progress:
        task = progress.add_task("", total=len(index))

        def images(numbers: Sequence[int]) -> Iterator[tuple[int, bytes]]:
            for first in range(0, len(numbers), AT_A_TIME):
                some = numbers[first : first + AT_A_TIME]
                for number, result in zip(some, pool.map(_one, some, chunksize=4), strict=True):
                    progress.advance(task)
                    if isinstance(result, bytes):
                        refused.pop(number, None)  # mended since
                        yield number, result
                    else:
                        refused[number] = Refused(number, *result)

        def report(finished: bool = False) -> None:
            _write_report(target, settings, sorted(refused.values()), index, finished)

        report()
        parts = list(target.missing())
        progress.advance(task, len(index) - sum(len(numbers) for numbers, _ in parts))
        for numbers, write in parts:
            write(images(numbers), report)
        report(finished=True)
    return sorted(refused.values())


def _resumed(target: Output, settings: Settings) -> list[tuple[int, str, str]]:
    """What an earlier run with these settings has refused.

    Raises:
        InputError: there is something at the place that no run with these settings has made.
    """
    try:
        before = json.loads(target.report.read_text())
        told = {name: before[name] for name in settings}
        refused = [(one["number"], one["kind"], one["reason"]) for one in before["refused"]]
    except FileNotFoundError:
        if target.there():
            raise InputError(f"{target.path} is there already: choose another name, or delete it first") from None
        return []
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{target.report} is no report of this version: delete it and {target.path} first") from None
    for name, value in settings.items():
        if name != "source" and told[name] != value:
            what = "of other images" if name in ("digest", "pictures") else f"with --{name} {told[name]}"
            raise InputError(f"{target.path} was begun {what}: choose another name, or delete it first")
    return refused


def _write_report(
    target: Output, settings: Settings, refused: list[Refused], index: ImageIndex, finished: bool
) -> None:
    kinds = Counter(one.kind for one in refused)
    content = {
        **settings,
        "finished": finished,
        "written": len(index) - len(refused) if finished else None,
        "refused_by_kind": dict(sorted(kinds.items())),
        "refused": [{"file": index.title(one.number), **one._asdict()} for one in refused],
    }
    begun = target.report.with_name(f".{target.report.name}.partial")
    begun.write_text(json.dumps(content, indent=1) + "\n")
    begun.replace(target.report)


_make: Callable[[int], bytes]


def _start_worker(index: ImageIndex, convention: str, size: int | None, max_pixels: int) -> None:
    """Say what to make; end with the main process, however that ends."""
    global _make
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the main process's business
    threading.Thread(target=_end_with_parent, daemon=True).start()

    def make(row: int) -> bytes:
        title = index.title(row)
        image = opened(index.read(row), title, max_pixels)
        if size is not None:
            require_size(image, title, size, "--image_size")
            image = CONVENTIONS[convention](image, size)
        return _png(image)

    _make = make


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    multiprocessing.connection.wait([parent.sentinel])
    os._exit(1)


def _one(row: int) -> bytes | tuple[str, str]:
    """An image as PNG, or the kind of reason why not and the whole of it."""
    try:
        return _make(row)
    except ImageError as error:
        return error.kind, str(error)


def _png(image: Image.Image) -> bytes:
    buffer = BytesIO()
    image.info.clear()  # no colour profile, no EXIF: the pixels are upright
    image.save(buffer, "PNG")
    return buffer.getvalue()


def prepare(argv: list[str]) -> None:
    """Run ``tenshot prepare`` with the arguments after it."""
    about = (prepare_images.__doc__ or "").split("\n\n    Args:")[0]
    auto_cli(
        prepare_images, args=argv, prog="tenshot prepare", description=about, as_positional=True, parser_class=Parser
    )
