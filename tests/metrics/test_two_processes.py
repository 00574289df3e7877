"""Two gloo processes with uneven shares, and one with nothing: the numbers are those of one process.

Run by ``run_ranks``, this file is the script of one rank.
"""

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from ranks import run_ranks
from tiny_inception import TinyInception
from torch import Tensor, nn

from tenshot.datamodules.pairs import colours_of, distance_map
from tenshot.distributed import gathering
from tenshot.errors import InputError
from tenshot.metrics import (
    Authenticity,
    Consistency,
    DataCopying,
    DensityCoverage,
    DepthError,
    DiversityLPIPS,
    EdgeAgreement,
    FrechetDistance,
    ImageMetric,
    InceptionScore,
    KernelDistance,
    MaskIoU,
    NearCopies,
    Nearness,
    NormalError,
    PrecisionRecall,
    PredictorMetric,
    SpatialFrechetDistance,
    VendiScore,
)

BATCH = 4
METRICS: dict[str, Callable[[], ImageMetric]] = {
    "rows": lambda: FrechetDistance(nn.Identity()),
    "random": lambda: FrechetDistance("random"),
    "spatial": lambda: SpatialFrechetDistance(TinyInception()),
    "consistency": Consistency,
    "kernel": lambda: KernelDistance(nn.Identity()),
    "subsets": lambda: KernelDistance(nn.Identity(), subsets=20, subset_size=7),
    "score": lambda: InceptionScore(nn.Identity(), splits=4),
    "precision": lambda: PrecisionRecall(nn.Identity()),
    "density": lambda: DensityCoverage(nn.Identity()),
    "authenticity": lambda: Authenticity(nn.Identity()),
    "copying": lambda: DataCopying(nn.Identity()),
    "near": lambda: NearCopies("random"),
    "nearness": lambda: Nearness("random"),
    "vendi": lambda: VendiScore(nn.Identity()),
    "iou": lambda: MaskIoU(nn.Identity()),
    "edges": EdgeAgreement,
    "depth": lambda: DepthError(nn.Identity()),
    "normals": lambda: NormalError(nn.Identity()),
    "diversity": lambda: DiversityLPIPS(nn.Identity()),
}
# which images rank r of two holds
ROUND = (slice(0, None, 2), slice(1, None, 2))
SHARES: dict[str, tuple[Sequence[slice], Sequence[slice]]] = {
    "in turn": (ROUND, ROUND),
    "one has nothing": ((slice(0, 0), slice(None)), (slice(None), slice(0, 0))),
    "in two parts": ((slice(0, 17), slice(17, None)), (slice(0, 3), slice(3, None))),
}
ORDERED = {"subsets", "score"}
"""What depends on the order, and so on shares that were dealt out in turn."""
WIDTHS = {"narrow": 6, "between": 15, "wide": 40}
"""Features: fewer than each rank has images; more than a rank but fewer than all; more than all."""
OF_IMAGES = ("random", "near", "nearness", "spatial", "iou", "edges", "depth", "normals")
"""What is shown images, of one size."""
CASES = [(name, width) for name in METRICS for width in WIDTHS if width == "narrow" or name not in OF_IMAGES]


def sets(width: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(width)
    return torch.randn(21, width, generator=generator), torch.randn(19, width, generator=generator) + 0.2


def random_images(made: int = 9, given: int = 8) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return tuple(torch.rand(n, 3, 8, 8, generator=generator) * 2 - 1 for n in (made, given))  # type: ignore[return-value]


def both_of(name: str, width: int) -> tuple[Tensor, Tensor]:
    """Generated and real ones; some of them near-copies, where those are counted."""
    if name == "near":
        generated, real = random_images(given=100)
        return torch.cat([generated, 0.95 * real[:6]]), real
    return random_images() if name in OF_IMAGES else sets(width)


def beside(metric: ImageMetric, images: Tensor) -> dict[str, Any]:
    """What a metric is shown of each image, made of that image alone."""
    if isinstance(metric, Consistency):
        return {"low_res": (images, images / 2)}
    if isinstance(metric, DiversityLPIPS):
        return {"pair": (images[:, 0] > 0).long()}
    if isinstance(metric, MaskIoU):
        return {"condition_image": colours_of((images[:, 0] > 0) + 2)}  # classes 1 and 2
    if isinstance(metric, EdgeAgreement):
        return {"condition_image": distance_map(images[:, :1] > 0)}
    levels = (images[:, :1].abs() * 255).to(torch.uint8)
    return {"condition_image": levels.expand(-1, 3, -1, -1)} if isinstance(metric, PredictorMetric) else {}


def add(metric: ImageMetric, generated: Tensor, real: Tensor) -> None:
    for batch in generated.split(BATCH) if len(generated) else ():
        metric.update(batch, **beside(metric, batch))
    of_pairs = isinstance(metric, PredictorMetric | EdgeAgreement)
    for batch in real.split(BATCH) if len(real) and (metric.compares or of_pairs) else ():
        if of_pairs:
            metric.update(batch, real=True, **beside(metric, batch))
        elif metric.compares_with_both:
            metric.update(batch, real="shots")
            metric.update(0.9 * batch, real="reference")
        else:
            metric.update(batch, real=True)


def values(metric: ImageMetric) -> dict[str, Any]:
    report = metric.report()
    return report.values | {name: n for name, n in report.settings.items() if name.startswith("n_")}


def one_rank(folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    rank = dist.get_rank()
    gathering.CHUNK_BYTES = 500  # so that rows come in several pieces
    results: dict[str, Any] = {}
    for share, (made, given) in SHARES.items():
        for name, width in CASES:
            generated, real = both_of(name, WIDTHS[width])
            metric = METRICS[name]()
            add(metric, generated[made[rank]], real[given[rank]])
            results[f"{share}, {name}, {width}"] = [values(metric), values(metric)]
    # more on one rank alone after the first result; a cached one would keep the other from meeting it
    metric, (generated, real) = METRICS["rows"](), sets(6)
    for part in (generated[:10], generated[10:]):
        add(metric, part if rank == 1 else part[:0], real[:9] if rank == 0 else real[9:])
        results[f"grown to {len(part)}"] = values(metric)
    metric.reset()
    results["nothing"] = str(values(metric))
    pixels = torch.randint(256, (3 - rank, 3, 2, 2), dtype=torch.uint8, generator=torch.Generator().manual_seed(rank))
    together = gathering.gather_rows(pixels)
    assert together is not None
    results["pixels"] = [str(together.dtype), together.flatten(1).tolist()]
    try:
        gathering.gather_rows(torch.zeros(2, 3 + rank))
    except InputError as error:
        results["different kinds"] = str(error)
    (folder / f"{rank}.json").write_text(json.dumps(results))
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("ranks")
    run_ranks(__file__, folder, timeout=200)
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]


@pytest.mark.parametrize(("name", "width"), CASES)
@pytest.mark.parametrize("share", SHARES)
def test_results_are_those_of_one_process(ranks: list[dict[str, Any]], share: str, name: str, width: str):
    alone = METRICS[name]()
    add(alone, *both_of(name, WIDTHS[width]))
    expected = values(alone)
    first = ranks[0][f"{share}, {name}, {width}"]
    assert first == ranks[1][f"{share}, {name}, {width}"]
    assert first[0] == first[1]
    if name in ORDERED and share == "in two parts":
        expected = {key: value for key, value in expected.items() if key.startswith("n_")}
    if name == "kernel" and share == "in two parts":
        del expected["kd_custom_std"]  # of resamples, which are drawn by position
    for key, value in expected.items():
        assert first[0][key] == pytest.approx(value, rel=1e-6, abs=1e-9), key


def test_results_grow_with_images_that_only_one_rank_gets(ranks: list[dict[str, Any]]):
    metric, (generated, real) = METRICS["rows"](), sets(6)
    for part in (generated[:10], generated[10:]):
        add(metric, part, real)
        for rank in ranks:
            assert rank[f"grown to {len(part)}"] == pytest.approx(values(metric), rel=1e-6)


def test_nothing_anywhere_is_undefined_on_all_ranks(ranks: list[dict[str, Any]]):
    assert ranks[0]["nothing"] == ranks[1]["nothing"] == "{'fd_custom': nan, 'n_generated': 0, 'n_real': 0}"


def test_pixels_come_together_in_turn_as_they_were(ranks: list[dict[str, Any]]):
    first, second = (
        torch.randint(256, (3 - rank, 12), dtype=torch.uint8, generator=torch.Generator().manual_seed(rank)).tolist()
        for rank in range(2)
    )
    in_turn = [first[0], second[0], first[1], second[1], first[2]]
    assert ranks[0]["pixels"] == ranks[1]["pixels"] == ["torch.uint8", in_turn]


def test_rows_of_different_kinds_are_an_error_on_all_ranks(ranks: list[dict[str, Any]]):
    assert "different kinds" in ranks[0]["different kinds"]
    assert ranks[0]["different kinds"] == ranks[1]["different kinds"]


if __name__ == "__main__":
    one_rank(Path(sys.argv[1]))
