"""The LPIPS metrics against loops over pairs, and against cases whose answer is known."""

import copy
import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from lpips_reference import filled, pair_by_pair, trunk_file
from torch import Tensor, nn

from tenshot.errors import InputError
from tenshot.metrics import IntraLPIPS, NearestLPIPS, PairwiseLPIPS
from tenshot.models.features.lpips import LPIPSNetwork

pytestmark = pytest.mark.filterwarnings("ignore:intra_")

KINDS = (IntraLPIPS, NearestLPIPS, PairwiseLPIPS)


def random_images(count: int, seed: int = 0, side: int = 40) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (count, 3, side, side), generator=generator) / 127.5 - 1


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> LPIPSNetwork:
    return LPIPSNetwork("alex", weights=trunk_file(tmp_path_factory.mktemp("trunk"), "alex"))


def cdc(to_targets: np.ndarray, among: np.ndarray, cap: int) -> tuple[list[float], list[int]]:
    """The published protocol by loops: means over pairs of each cluster with at least two members; sizes."""
    clusters: list[list[int]] = [[] for _ in to_targets[0]]
    for i, row in enumerate(to_targets):
        clusters[min(range(len(row)), key=lambda j: row[j])].append(i)
    means = []
    for members in clusters:
        pairs = list(itertools.combinations(members[:cap], 2))
        if pairs:
            means.append(sum(among[i, j] for i, j in pairs) / len(pairs))
    return means, [len(members) for members in clusters]


def test_intra_lpips_is_the_published_protocol_pair_by_pair(network: LPIPSNetwork):
    generated, real = random_images(14), random_images(3, seed=1)
    for some, shot in ((slice(0, 6), 2), (slice(6, 9), 0)):  # so that a cluster exceeds the cap
        mixed = (generated[some] + real[shot]) / 2
        generated[some] = ((mixed + 1) * 127.5).round() / 127.5 - 1
    among = pair_by_pair(generated, generated, "alex").numpy()
    means, sizes = cdc(pair_by_pair(generated, real, "alex").numpy(), among, cap=4)
    report = filled(IntraLPIPS(network, cap=4, subset="first"), generated, real).report()
    name = f"intra_{network.name}"
    assert max(sizes) > 4
    assert report.details["cluster_sizes"] == sizes
    assert report.values[name] == pytest.approx(np.mean(means), rel=1e-5)
    assert report.values[f"{name}_std"] == pytest.approx(np.std(means, ddof=1), rel=1e-4)
    assert report.details["sem"] == pytest.approx(np.std(means, ddof=1) / len(means) ** 0.5, rel=1e-4)
    assert [mean for mean in report.details["cluster_means"] if mean] == pytest.approx(means, rel=1e-5)
    counts = {"n_generated": 14, "n_real": 3, "size": [40, 40], "cap": 4, "subset": "first", "resize": None}
    assert counts.items() <= report.settings.items()
    assert report.settings["weights_sha256"] == network.sha256


def test_nearest_lpips_is_the_least_over_shots(network: LPIPSNetwork):
    generated, real = random_images(7), random_images(3, seed=1)
    distances = pair_by_pair(generated, real, "alex").double().numpy()
    threshold = float(np.sort(distances.min(1))[2]) + 1e-4
    report = filled(NearestLPIPS(network, threshold=threshold), generated, real).report()
    name, nearest = f"nearest_{network.name}", distances.min(1)
    assert report.values == pytest.approx(
        {
            name: nearest.mean(),
            f"{name}_p05": np.quantile(nearest, 0.05),
            f"{name}_coverage": distances.min(0).mean(),
            f"{name}_copies": 3 / 7,
            f"{name}_modes": len(set(distances.argmin(1))),
        },
        rel=1e-5,
    )
    assert report.details["std"] == pytest.approx(nearest.std(ddof=1), rel=1e-4)
    assert report.details["quantiles"]["0.25"] == pytest.approx(np.quantile(nearest, 0.25), rel=1e-5)
    assert report.details["nearest_of_each_shot"] == pytest.approx(distances.min(0).tolist(), rel=1e-5)


def test_modes_are_shots_that_are_nearest_to_something_not_farthest(network: LPIPSNetwork):
    real = random_images(4, seed=1)
    generated = torch.stack([0.8 * real[0] + 0.2 * other for other in real])
    distances = pair_by_pair(generated, real, "alex")
    nearest, farthest = (len(set(which.tolist())) for which in (distances.argmin(1), distances.argmax(1)))
    assert nearest == 1 < farthest
    assert filled(NearestLPIPS(network), generated, real).report().values[f"nearest_{network.name}_modes"] == 1


def test_mirrored_shots_count_as_shots_if_they_are_to(network: LPIPSNetwork):
    real = random_images(3, seed=1)
    generated = torch.cat([real[:1].flip(-1), random_images(3)])
    straight, mirrored = (pair_by_pair(generated, shots, "alex").double() for shots in (real, real.flip(-1)))
    both = torch.minimum(straight, mirrored)
    report = filled(NearestLPIPS(network, count_flips=True), generated, real).report()
    name = f"nearest_{network.name}"
    assert report.values[name] == pytest.approx(float(both.amin(1).mean()), rel=1e-5)
    assert report.values[f"{name}_coverage"] == pytest.approx(float(both.amin(0).mean()), rel=1e-5)
    assert report.details["nearest_of_each_shot"][0] < 1e-9
    assert filled(NearestLPIPS(network), generated, real).report().details["nearest_of_each_shot"][0] > 0.01


def test_pairwise_lpips_is_the_mean_over_pairs(network: LPIPSNetwork):
    generated = random_images(6)
    among = pair_by_pair(generated, generated, "alex").numpy()
    expected = np.mean([among[i, j] for i, j in itertools.combinations(range(6), 2)])
    assert float(filled(PairwiseLPIPS(network), generated).compute()) == pytest.approx(expected, rel=1e-5)


def test_a_generator_that_remembers_all_shots_has_no_diversity_of_its_own(network: LPIPSNetwork):
    shots = random_images(3, seed=1)
    copies = shots.repeat(3, 1, 1, 1)
    values = {}
    for kind in KINDS:
        values |= filled(kind(network), copies, shots).report().values
    name = network.name
    for zero in (f"intra_{name}", f"intra_{name}_std", f"nearest_{name}", f"nearest_{name}_coverage"):
        assert values[zero] < 1e-9, zero
    assert values[f"nearest_{name}_copies"] == 1
    among = pair_by_pair(shots, shots, "alex")
    assert values[f"pairwise_{name}"] == pytest.approx(float(among.sum()) * 9 / 72, rel=1e-5)  # 9 of 72 are each pair's


def test_each_image_goes_through_the_trunk_once(monkeypatch: pytest.MonkeyPatch):
    network, passes = LPIPSNetwork.random("alex"), []
    network.layers[0].register_forward_hook(lambda layer, inputs, output: passes.append(len(output)))
    shots = random_images(3, seed=1)
    for count in (8, 16):
        for kind, extra in ((IntraLPIPS, 3), (NearestLPIPS, 3), (PairwiseLPIPS, 0)):
            passes.clear()
            filled(kind(network), random_images(count), shots).compute()
            assert sum(passes) == count + extra
    monkeypatch.setattr("tenshot.metrics.intra_lpips.held_bytes", lambda device: 0)
    passes.clear()
    filled(IntraLPIPS(network), random_images(16), shots).compute()
    assert sum(passes) == 2 * 16 + 3


def test_results_do_not_depend_on_the_batches(network: LPIPSNetwork):
    for kind in KINDS:
        first, second = (
            filled(kind(network), random_images(9), random_images(3, seed=1), batch).report() for batch in (1, 9)
        )
        assert first == second


def test_results_are_those_of_the_saved_files(network: LPIPSNetwork):
    generated = torch.tanh(torch.randn(4, 3, 40, 40, generator=torch.Generator().manual_seed(0)))
    saved = ((generated + 1) * 127.5).round().to(torch.uint8)
    for kind in KINDS:
        shots = random_images(2, seed=1)
        assert filled(kind(network), generated, shots).report() == filled(kind(network), saved, shots).report()


def test_autocast_and_reduced_precision_around_it_change_nothing(network: LPIPSNetwork):
    metric = filled(NearestLPIPS(network), random_images(2), random_images(1, seed=1))
    plain = metric.compute()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert metric.compute() == plain


def test_random_weights_have_a_name_of_their_own():
    generated, shots = random_images(6, side=16), random_images(2, seed=1, side=16)
    names = [next(iter(filled(kind("random"), generated, shots).report().values)) for kind in KINDS]
    assert names == ["intra_dist_random", "nearest_dist_random", "pairwise_dist_random"]
    assert next(iter(PairwiseLPIPS(LPIPSNetwork.random("alex")).report().values)) == "pairwise_dist_random_alex"


def test_trained_weights_are_called_lpips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for trunk, names in (("vgg", "lpips"), ("alex", "lpips_alex")):
        network = LPIPSNetwork(trunk, weights=trunk_file(tmp_path, trunk))
        monkeypatch.setattr(network, "name", names)
        assert next(iter(IntraLPIPS(network).report().values)) == f"intra_{names}"


def test_metrics_share_a_network_that_is_no_part_of_them(tmp_path: Path):
    file = trunk_file(tmp_path, "alex")
    first, second = (kind("alex", weights=file) for kind in (IntraLPIPS, NearestLPIPS))
    first.prepare()
    assert first.features.network is second.features.network
    assert copy.deepcopy(first).features.network is first.features.network
    assert NearestLPIPS("alex", weights=file, resize=64).features.network is not first.features.network
    filled(first, random_images(2))
    assert first.state_dict() == {}
    assert list(first.parameters()) == []


def test_images_are_resized_first():
    shots, generated = random_images(2, seed=1), random_images(4)
    resized = filled(NearestLPIPS("random", resize=24), generated, shots).report()
    assert resized.settings["resize"] == 24
    assert resized.values != filled(NearestLPIPS("random"), generated, shots).report().values


def test_forgotten_images_are_forgotten(network: LPIPSNetwork):
    metric = filled(PairwiseLPIPS(network), random_images(4))
    metric.reset()
    assert (
        filled(metric, random_images(2, side=32)).report()
        == filled(PairwiseLPIPS(network), random_images(2, side=32)).report()
    )


def test_errors_are_one_line(network: LPIPSNetwork, tmp_path: Path):
    with pytest.raises(InputError, match="no LPIPS features 'vgg16'"):
        IntraLPIPS("vgg16")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="random takes no weights"):
        IntraLPIPS("random", weights="vgg.pth")
    with pytest.raises(InputError, match="give them to the network itself"):
        IntraLPIPS(network, resize=64)
    with pytest.raises(InputError, match="a module of yours can resize"):
        IntraLPIPS(nn.Identity(), resize=64)
    with pytest.raises(InputError, match="cap is 1: a cluster needs two"):
        IntraLPIPS(cap=1)
    with pytest.raises(InputError, match="subset is 'last': choose random or first"):
        IntraLPIPS(subset="last")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="count_flips needs images"):
        NearestLPIPS(nn.Identity(), count_flips=True)
    with pytest.raises(InputError, match="leave real out"):
        PairwiseLPIPS(network).update(random_images(1), real=True)
    with pytest.raises(InputError, match=r"got 0 … 255"):
        IntraLPIPS(network).update(torch.linspace(0, 255, 3 * 40 * 40).view(1, 3, 40, 40))
    with pytest.raises(InputError, match=r"of \(3, 32, 32\), but earlier ones were of \(3, 40, 40\)"):
        filled(IntraLPIPS(network), random_images(1), random_images(1, side=32))
    with pytest.raises(InputError, match="16 x 16 are too small for the LPIPS trunk alex"):
        PairwiseLPIPS(network).update(random_images(2, side=16))
    with pytest.raises(InputError, match=r"nowhere\.pth: no such file"):
        IntraLPIPS(weights=str(tmp_path / "nowhere.pth")).prepare()
