"""Two gloo processes with uneven shares, and one with nothing: LPIPS metrics and bits as one process finds them.

Run by ``run_ranks``, this file is the script of one rank.
"""

import json
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from ranks import run_ranks
from torch import Tensor, nn

from tenshot.diffusion import VariationalBound
from tenshot.errors import InputError
from tenshot.metrics import (
    BitsPerDim,
    ImageMetric,
    IntraLPIPS,
    NearestLPIPS,
    PairwiseLPIPS,
    PathMetric,
    PathUniformity,
    PerceptualPathLength,
)
from tenshot.metrics.lpips_metric import LPIPSMetric
from tenshot.models.features.lpips import LPIPSNetwork

NETWORK = LPIPSNetwork.random("alex")
METRICS: dict[str, Callable[[], LPIPSMetric]] = {
    "intra": lambda: IntraLPIPS(NETWORK),
    "intra, capped": lambda: IntraLPIPS(NETWORK, cap=3),
    "nearest": lambda: NearestLPIPS(NETWORK, count_flips=True, threshold=1.2),
    "pairwise": lambda: PairwiseLPIPS(NETWORK),
    "intra of features": lambda: IntraLPIPS(nn.Identity(), cap=None),
    "nearest of features": lambda: NearestLPIPS(nn.Identity()),
}
PATHS: dict[str, Callable[[], PathMetric]] = {
    "length": lambda: PerceptualPathLength(NETWORK, epsilon=0.1),
    "uniformity": lambda: PathUniformity(NETWORK),
}
ORDERED = {"intra, capped"}
"""What depends on the order, and so on shares that were dealt out in turn."""
ROUND = (slice(0, None, 2), slice(1, None, 2))
SHARES: dict[str, tuple[Sequence[slice], Sequence[slice]]] = {
    "in turn": (ROUND, ROUND),
    "one has nothing": ((slice(0, 0), slice(None)), (slice(None), slice(0, 0))),
    "in two parts": ((slice(0, 8), slice(8, None)), (slice(0, 1), slice(1, None))),
}
IMAGES, SHOTS = 11, 3


def sets(name: str) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(2)
    if "features" in name:
        return torch.randn(IMAGES, 6, generator=generator), torch.randn(SHOTS, 6, generator=generator)
    pixels = torch.randint(128, (IMAGES + SHOTS, 3, 32, 32), generator=generator, dtype=torch.uint8)
    generated, real = pixels[:IMAGES], pixels[IMAGES:]
    return generated + real[[0, 1, 2, 0, 1, 0, 0, 2, 1, 0, 0]], 2 * real


def filled(name: str, generated: Tensor, real: Tensor) -> LPIPSMetric:
    metric = METRICS[name]()
    for batch in generated.split(3) if len(generated) else ():
        metric.update(batch)
    if metric.compares:
        metric.update(real, real=True)
    return metric


def bounds() -> VariationalBound:
    vb, x0_mse, mse = torch.rand(3, 5, 4, generator=torch.Generator().manual_seed(0))
    return VariationalBound(vb.sum(dim=1), torch.ones(5), vb, x0_mse, mse)


def bits(some: slice) -> BitsPerDim:
    metric = BitsPerDim()
    if bounds().total[some].numel():
        metric.update(VariationalBound(*(term[some] for term in bounds())))
    return metric


def walked(name: str, some: slice) -> PathMetric:
    metric = PATHS[name]()
    generator = torch.Generator().manual_seed(3)
    images = torch.rand(IMAGES, metric.images_per_path, 3, 32, 32, generator=generator)[some] * 2 - 1
    for batch in images.split(3) if len(images) else ():
        metric.update(batch)
    return metric


def said(metric: ImageMetric) -> dict[str, Any]:
    report = metric.report()
    return report.values | report.settings | report.details


def one_rank(folder: Path) -> None:
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", category=UserWarning)
    dist.init_process_group("gloo")
    rank, passes, results = dist.get_rank(), [], {}
    NETWORK.layers[0].register_forward_hook(lambda layer, inputs, output: passes.append(len(output)))
    for share, (made, given) in SHARES.items():
        for name in METRICS:
            generated, real = sets(name)
            passes.clear()
            results[f"{share}, {name}"] = said(filled(name, generated[made[rank]], real[given[rank]]))
            results[f"{share}, {name}, passes"] = sum(passes)
        results[f"{share}, bits"] = said(bits(made[rank]))
        for name in PATHS:
            results[f"{share}, {name}"] = said(walked(name, made[rank]))
    try:
        filled("nearest", torch.zeros(1, 3, 32 + rank, 32), torch.zeros(1, 3, 32 + rank, 32)).compute()
    except InputError as error:
        results["different sizes"] = str(error)
    (folder / f"{rank}.json").write_text(json.dumps(results))
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("ranks")
    run_ranks(__file__, folder, timeout=200)
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]


def assert_close(ours: Any, expected: Any, at: str) -> None:
    if isinstance(expected, dict):
        assert ours.keys() == expected.keys(), at
        for key, value in expected.items():
            assert_close(ours[key], value, f"{at}.{key}")
    elif isinstance(expected, list):
        assert len(ours) == len(expected), at
        for a, b in zip(ours, expected, strict=True):
            assert_close(a, b, at)
    elif isinstance(expected, float):
        assert ours == pytest.approx(expected, rel=1e-6, abs=1e-6), at
    else:
        assert ours == expected, at


@pytest.mark.filterwarnings("ignore:intra_")
@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("share", SHARES)
def test_results_are_those_of_one_process(ranks: list[dict[str, Any]], share: str, name: str):
    expected, ours = said(filled(name, *sets(name))), [rank[f"{share}, {name}"] for rank in ranks]
    assert ours[0] == ours[1]
    if name in ORDERED and share == "in two parts":
        assert ours[0]["cluster_sizes"] == expected["cluster_sizes"]
    else:
        assert_close(ours[0], expected, name)


def test_there_is_something_to_compare():
    sizes = said(filled("intra", *sets("intra")))["cluster_sizes"]
    assert sizes == [6, 3, 2]


@pytest.mark.parametrize("share", SHARES)
def test_ranks_share_the_images_whoever_brought_them(ranks: list[dict[str, Any]], share: str):
    for name, targets in (("intra", SHOTS), ("intra, capped", SHOTS), ("nearest", 2 * SHOTS), ("pairwise", 0)):
        assert [rank[f"{share}, {name}, passes"] for rank in ranks] == [6 + targets, 5 + targets]


@pytest.mark.parametrize("share", SHARES)
def test_bits_are_those_of_one_process(ranks: list[dict[str, Any]], share: str):
    assert ranks[0][f"{share}, bits"] == ranks[1][f"{share}, bits"]
    assert_close(ranks[0][f"{share}, bits"], said(bits(slice(None))), "bits")


@pytest.mark.parametrize("name", PATHS)
@pytest.mark.parametrize("share", SHARES)
def test_paths_are_those_of_one_process(ranks: list[dict[str, Any]], share: str, name: str):
    ours, alone = [rank[f"{share}, {name}"] for rank in ranks], said(walked(name, slice(None)))
    assert ours[0] == ours[1]
    assert_close(ours[0], alone, name)


def test_images_of_different_sizes_are_an_error_on_all_ranks(ranks: list[dict[str, Any]]):
    assert "different kinds" in ranks[0]["different sizes"]
    assert ranks[0]["different sizes"] == ranks[1]["different sizes"]


if __name__ == "__main__":
    one_rank(Path(sys.argv[1]))
