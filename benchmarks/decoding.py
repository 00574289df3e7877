"""Reading images against torchvision's ``ImageFolder``, and opening a set of a million: ``python
-m benchmarks.decoding``; three minutes.

Both decode the same files, four photographs at several sizes and formats, and bring them to the same size in batches
of uint8, in one process and one thread, taking turns; ratios are medians over rounds. torchvision's transforms are
``Resize`` (bilinear, its default, and bicubic, which is the filter of ours), ``CenterCrop`` and ``PILToTensor``; ours
follow the convention of ADM: box halvings, bicubic, centre crop. A round in which other processes took more than a
tenth of the machine is dropped. Writes ``benchmarks/results/<name>.json`` and ``.md``, where parts that are not
measured stay.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from skimage import data
from torch import Tensor
from torchvision.datasets import ImageFolder
from torchvision.transforms import CenterCrop, Compose, InterpolationMode, PILToTensor, Resize

from benchmarks.parts.contest import BUSY_LIMIT, busy_seconds
from benchmarks.parts.program import rss_mib
from benchmarks.parts.report import describe_machine, spread
from tenshot.datamodules.index import open_index
from tenshot.datamodules.reading import list_images
from tenshot.datamodules.sources import IndexedSource

RESULTS = Path(__file__).parent / "results"
PATIENCE = 2
FILES: dict[str, tuple[tuple[int, int], str, dict[str, Any]]] = {
    "JPEG 500 x 375": ((500, 375), "jpg", {"quality": 90}),
    "JPEG 1024 x 1024": ((1024, 1024), "jpg", {"quality": 95}),
    "JPEG 2000 x 1333": ((2000, 1333), "jpg", {"quality": 90}),
    "PNG 256 x 256": ((256, 256), "png", {}),
}
SIZES = (64, 256)
OURS, BILINEAR, BICUBIC = "ours", "torchvision, bilinear", "torchvision, bicubic"


def write_images(root: Path, size: tuple[int, int], ending: str, options: dict[str, Any], count: int) -> None:
    """``count`` files of four photographs, in one class folder."""
    (root / "all").mkdir(parents=True)
    photographs = [data.astronaut(), data.coffee(), data.chelsea(), data.rocket()]
    for number in range(count):
        image = Image.fromarray(photographs[number % 4]).resize(size, Image.Resampling.LANCZOS)
        image.save(root / "all" / f"{number:04d}.{ending}", **options)


def torchvision_reader(root: Path, size: int, filter: InterpolationMode) -> Callable[[], Tensor]:
    """A batch of all images, as its loader puts one together."""
    images = ImageFolder(str(root), Compose([Resize(size, filter), CenterCrop(size), PILToTensor()]))
    return lambda: torch.stack([images[number][0] for number in range(len(images))])


def our_reader(root: Path, size: int) -> Callable[[], Tensor]:
    source = IndexedSource(open_index(str(root), "root"), size, "")
    return lambda: source.read(range(len(source)))["image"]


def timed(work: Callable[[], Tensor]) -> dict[str, float]:
    """Wall and processor seconds, and the share of the machine that others took meanwhile."""
    busy, wall, cpu = busy_seconds(), time.perf_counter(), time.process_time()
    work()
    seconds, own = time.perf_counter() - wall, time.process_time() - cpu
    others = max(0.0, busy_seconds() - busy - own) / (seconds * (os.cpu_count() or 1))
    return {"seconds": seconds, "cpu_seconds": own, "others": others}


def compared(root: Path, size: int, count: int, wanted: int) -> dict[str, Any]:
    """Rounds in alternating order until enough were quiet."""
    readers = {
        OURS: our_reader(root, size),
        BILINEAR: torchvision_reader(root, size, InterpolationMode.BILINEAR),
        BICUBIC: torchvision_reader(root, size, InterpolationMode.BICUBIC),
    }
    ours, theirs = readers[OURS]().float(), readers[BICUBIC]().float()  # warm, and about the same images
    assert ours.shape == theirs.shape
    difference = float((ours - theirs).abs().mean())
    rounds: list[dict[str, dict[str, float]]] = []
    quiet: list[dict[str, dict[str, float]]] = []
    while len(quiet) < wanted and len(rounds) < PATIENCE * wanted:
        order = list(readers) if len(rounds) % 2 == 0 else list(reversed(readers))
        rounds.append({name: timed(readers[name]) for name in order})
        quiet = [costs for costs in rounds if all(cost["others"] <= BUSY_LIMIT for cost in costs.values())]
    used = quiet or rounds
    rates = {name: spread([count / costs[name]["cpu_seconds"] for costs in used]) for name in readers}
    ratios = {
        name: spread([costs[name]["cpu_seconds"] / costs[OURS]["cpu_seconds"] for costs in used])
        for name in (BILINEAR, BICUBIC)
    }
    return {
        "size": size, "images_per_cpu_second": rates, "ratio": ratios, "mean_difference_to_bicubic": difference,
        "rounds": rounds, "quiet_rounds": len(quiet),
    }  # fmt: skip


def opening(count: int) -> dict[str, float]:
    """Seconds to list ``count`` files in folders of a thousand, and to open their kept list."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder, "set")
        for number in range(count):
            if number % 1000 == 0:
                (root / f"{number // 1000:04d}").mkdir(parents=True)
            (root / f"{number // 1000:04d}" / f"{number:08d}.jpg").touch()
        os.environ["TENSHOT_CACHE"] = str(Path(folder, "cache"))
        began = time.perf_counter()
        index = open_index(str(root), "root")
        first, began = time.perf_counter() - began, time.perf_counter()
        assert index.file is not None
        file_mib = index.file.stat().st_size / 2**20
        before = rss_mib()
        again = open_index(str(root), "root")
        assert again.name(count // 2)
        second, memory, began = time.perf_counter() - began, rss_mib() - before, time.perf_counter()
        assert len(list_images(str(root), "root")) == count
        return {
            "images": count, "first_seconds": first, "again_seconds": second, "again_mib": memory,
            "file_mib": file_mib, "listing_seconds": time.perf_counter() - began,
        }  # fmt: skip


def markdown(result: dict[str, Any]) -> str:
    """The tables."""
    machine = result["machine"]
    lines = [
        f"{machine['cpu']}, one thread ({machine['instructions']}), torch {machine['torch']}, torchvision "
        f"{result['torchvision']}, Pillow {result['pillow']}. Images a processor second, decoded, resized and in a "
        f"batch; medians of rounds with the 10-90 % range of the ratio.",
        "",
        f"| file | to | ours | {BILINEAR} | times faster | {BICUBIC} | times faster |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, rows in result.get("reading", {}).items():
        for row in rows:
            cells = [f"{row['images_per_cpu_second'][OURS]['median']:.0f}"]
            for other in (BILINEAR, BICUBIC):
                ratio = row["ratio"][other]
                cells += [
                    f"{row['images_per_cpu_second'][other]['median']:.0f}",
                    f"{ratio['median']:.2f} ({ratio['p10']:.2f}-{ratio['p90']:.2f})",
                ]
            lines.append(f"| {name} | {row['size']} | {' | '.join(cells)} |")
    quiet = [
        f"{row['quiet_rounds']} of {len(row['rounds'])}" for rows in result.get("reading", {}).values() for row in rows
    ]
    lines += ["", f"Quiet rounds, row by row: {', '.join(quiet)}; where there was none, all were used."]
    if found := result.get("opening"):
        lines += [
            "",
            f"A folder of {found['images']:,} files: listed and kept in {found['first_seconds']:.1f} s "
            f"({found['file_mib']:.0f} MiB); opened again, as every further rank and run does, in "
            f"{1000 * found['again_seconds']:.0f} ms and {found['again_mib']:.1f} MiB. Listing the files in each "
            f"process takes {found['listing_seconds']:.1f} s.",
        ]
    return "\n".join([*lines, ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--name", default="decoding", help="of the files in benchmarks/results")
    parser.add_argument("--count", type=int, default=12, help="images in a batch")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--parts", nargs="+", choices=("reading", "opening"), default=["reading", "opening"])
    parser.add_argument("--million", type=int, default=1000000, help="files of the large folder")
    args = parser.parse_args()
    torch.set_num_threads(1)
    import PIL
    import torchvision

    RESULTS.mkdir(exist_ok=True)
    file = RESULTS / f"{args.name}.json"
    result: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    result |= {
        "machine": describe_machine("cpu", 1), "torchvision": torchvision.__version__, "pillow": PIL.__version__,
    }  # fmt: skip
    if "reading" in args.parts:
        result["reading"] = {}
        with tempfile.TemporaryDirectory() as folder:
            os.environ["TENSHOT_CACHE"] = str(Path(folder, "cache"))
            for number, (name, (size, ending, options)) in enumerate(FILES.items()):
                root = Path(folder, str(number))
                write_images(root, size, ending, options, args.count)
                result["reading"][name] = [compared(root, side, args.count, args.rounds) for side in SIZES]
                print(f"  {name}", file=sys.stderr)
    if "opening" in args.parts:
        result["opening"] = opening(args.million)
    file.write_text(json.dumps(result, indent=1) + "\n")
    file.with_suffix(".md").write_text(markdown(result))
    print(markdown(result))


if __name__ == "__main__":
    main()
