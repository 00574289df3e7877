import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
from lpips_reference import reference, trunk_file
from torch import Tensor, nn
from torch.nn import functional as F

from tenshot.errors import InputError
from tenshot.metrics import PathMetric, PathUniformity, PerceptualPathLength
from tenshot.metrics.latent_paths import slerp
from tenshot.models.features.lpips import LPIPSNetwork

PATHS, WIDTH = 40, 5
LAYER = torch.randn(WIDTH, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def linear(latents: Tensor) -> Tensor:
    return latents @ LAYER


def ends() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(2)
    first, second = torch.randn(2, PATHS, WIDTH, dtype=torch.float64, generator=generator)
    return first, second, torch.rand(PATHS, dtype=torch.float64, generator=generator)


def shown(metric: PathMetric, generator: Callable[[Tensor], Tensor] = linear, batch: int = 7) -> PathMetric:
    latents = metric.latents(*ends())
    for part in latents.split(batch):
        metric.update(generator(part))
    return metric


def trimmed(lengths: np.ndarray) -> float:
    low, high = (np.percentile(lengths, q, method=how) for q, how in ((1, "lower"), (99, "higher")))
    return float(lengths[(lengths >= low) & (lengths <= high)].mean())


@pytest.mark.parametrize("sampling", ["end", "full"])
def test_a_linear_generator_has_the_length_of_its_paths(sampling):
    first, second, _ = ends()
    metric = shown(PerceptualPathLength(nn.Identity(), sampling=sampling, epsilon=1e-3))
    lengths = linear(second - first).square().sum(dim=1)
    [(name, value)] = metric.report().values.items()
    assert name == f"path_dist_custom_w{sampling}"
    assert value == pytest.approx(trimmed(lengths.numpy()), rel=1e-6)
    assert metric.report().details["untrimmed"] == pytest.approx(float(lengths.mean()), rel=1e-6)


def test_full_paths_start_where_they_are_told_to():
    metric, (first, second, position) = PerceptualPathLength(nn.Identity(), sampling="full", epsilon=0.125), ends()
    expected = [first + t[:, None] * (second - first) for t in (position, position + 0.125)]
    torch.testing.assert_close(metric.latents(first, second, position), torch.stack(expected, dim=1))


def test_paths_in_z_are_arcs():
    lengths = []
    for a, b, t in zip(*ends(), strict=True):
        near, far = (slerp(a, b, t + step) for step in (0, 0.01))
        lengths.append(float(linear(far - near).square().sum() / 0.01**2))
    metric = PerceptualPathLength(nn.Identity(), space="z", sampling="full", epsilon=0.01)
    assert shown(metric).report().values == pytest.approx({"path_dist_custom_zfull": trimmed(np.array(lengths))})


def test_tails_are_cut_as_published():
    for count in (1, 2, 150, 1000):
        lengths = np.random.RandomState(count).lognormal(sigma=3, size=count)
        metric = PerceptualPathLength(nn.Identity(), epsilon=0.5)
        pairs = torch.zeros(count, 2, 1, dtype=torch.float64)
        pairs[:, 1, 0] = torch.from_numpy(lengths).sqrt() / 2
        metric.update(pairs)
        assert float(metric.compute()) == pytest.approx(trimmed(lengths))


def test_a_linear_generator_is_perfectly_uniform():
    first, second, _ = ends()
    lengths = linear(second - first).square().sum(dim=1)
    values = shown(PathUniformity(nn.Identity())).report().values
    name = "path_dist_custom"
    assert values[name] == pytest.approx(float(lengths.mean()))
    assert values[f"{name}_std"] == pytest.approx(0, abs=1e-6)
    assert values[f"{name}_ends"] == pytest.approx(100 * float(lengths.mean()))


def test_the_spread_is_within_a_path_and_then_a_mean():
    warped = lambda latents: linear(latents).sin()  # noqa: E731
    metric, (first, second, _) = shown(PathUniformity(nn.Identity()), warped), ends()
    table = np.zeros((PATHS, 10))
    for i, (a, b) in enumerate(zip(first, second, strict=True)):
        frames = [warped(a + j / 10 * (b - a)).numpy() for j in range(11)]
        table[i] = [((frames[j + 1] - frames[j]) ** 2).sum() / 0.1**2 for j in range(10)]
    whole = (warped(second) - warped(first)).square().sum(dim=1) / 0.1**2
    expected = (table.mean(), table.std(axis=1, ddof=1).mean(), float(whole.mean()))
    assert tuple(metric.report().values.values()) == pytest.approx(expected)
    assert [float(value) for value in metric.compute()] == pytest.approx(expected)


def test_a_staircase_is_less_uniform_than_a_ramp_of_the_same_ends():
    ramp = torch.linspace(0, 1, 11).view(1, 11, 1)
    found = []
    for path in (ramp, ramp.round()):
        metric = PathUniformity(nn.Identity())
        metric.update(path)
        found.append(metric.report().values)
    assert found[0]["path_dist_custom_ends"] == found[1]["path_dist_custom_ends"] == pytest.approx(100)
    assert found[0]["path_dist_custom_std"] == pytest.approx(0, abs=1e-5)
    assert found[1]["path_dist_custom_std"] == pytest.approx(np.std([100] + 9 * [0], ddof=1))


# Images


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> LPIPSNetwork:
    return LPIPSNetwork("alex", weights=trunk_file(tmp_path_factory.mktemp("trunk"), "alex"))


def frames(count: int, points: int, step: float, side: int = 40) -> Tensor:
    """(count, points, 3, side, side): images that move by about ``step``, some beyond [-1, 1]."""
    generator = torch.Generator().manual_seed(3)
    start, way = (torch.randn(count, 1, 3, side, side, generator=generator) for _ in range(2))
    return 0.5 * start + step * torch.arange(points).view(1, -1, 1, 1, 1) * way


def apart(x: Tensor, y: Tensor) -> np.ndarray:
    """Distances by the ``lpips`` package, in float64."""
    with torch.inference_mode():
        judge = copy.deepcopy(reference("alex")).double()
        return torch.stack(
            [judge(a[None].double(), b[None].double()).squeeze() for a, b in zip(x, y, strict=True)]
        ).numpy()


def test_distances_are_those_of_lpips(network: LPIPSNetwork):
    paths = frames(3, 11, 0.05)
    metric = PathUniformity(network)
    metric.update(paths[:2])
    metric.update(paths[2:])
    table = np.stack([apart(path[:-1], path[1:]) for path in paths]) * 100
    values = metric.report().values
    assert values[f"path_{network.name}"] == pytest.approx(table.mean(), rel=1e-4)
    assert values[f"path_{network.name}_std"] == pytest.approx(table.std(axis=1, ddof=1).mean(), rel=1e-3)
    assert values[f"path_{network.name}_ends"] == pytest.approx(100 * apart(paths[:, 0], paths[:, -1]).mean(), rel=1e-4)


def test_steps_far_below_a_grey_level_count(network: LPIPSNetwork):
    pairs = frames(4, 2, 1e-4)
    metric = PerceptualPathLength(network)
    metric.update(pairs)
    [value] = metric.report().values.values()
    assert value == pytest.approx(apart(pairs[:, 0], pairs[:, 1]).mean() / 1e-8, rel=0.02)


def test_large_images_are_averaged_down_and_others_resized_as_asked(network: LPIPSNetwork):
    large = frames(1, 2, 0.1, side=512)
    half = F.avg_pool2d(large[0], 2)
    asked = F.interpolate(large[0], size=(64, 64), mode="bilinear", antialias=True)
    for resize, expected in ((None, half), (64, asked)):
        metric = PerceptualPathLength(network, resize=resize, epsilon=0.1)
        metric.update(large)
        report = metric.report()
        assert list(report.values.values()) == pytest.approx(apart(expected[:1], expected[1:]) / 0.1**2, rel=1e-3)
        assert report.settings["resize"] == resize
        assert report.settings["size"] == [512, 512]


def test_only_trained_weights_bring_the_published_names(network: LPIPSNetwork):
    published = copy.copy(network)
    published.name = "lpips"
    assert list(PerceptualPathLength(published).names()) == ["ppl_wend"]
    assert list(PathUniformity(published).names()) == ["path_lpips", "path_lpips_std", "path_lpips_ends"]
    assert list(PerceptualPathLength("random", sampling="full").names()) == ["path_dist_random_wfull"]
    assert list(PathUniformity("random").names())[1] == "path_dist_random_std"


def test_no_path_is_undefined():
    for metric in (PerceptualPathLength("random"), PathUniformity("random")):
        report = metric.report()
        assert all(value != value for value in report.values.values())
        assert report.details["why"] == "there is no path"
        metric.update(frames(1, metric.images_per_path, 0.1))
        assert metric.report().settings["n_paths"] == 1
        metric.reset_generated()
        assert metric.report().settings["n_paths"] == 0


def test_mistakes_are_named(network: LPIPSNetwork):
    metric, good = PerceptualPathLength(network), frames(2, 2, 0.1)
    for bad, message in (
        ((good * 127).to(torch.uint8), "takes float images"),
        (frames(2, 3, 0.1), "takes float images"),
        (good[0], "takes float images"),
        (good * float("nan"), "there is a NaN"),
        ((good + 1) * 127.5, "x / 127.5 - 1"),
        (frames(1, 2, 0.1, side=20), "too small"),
    ):
        with pytest.raises(InputError, match=message):
            metric.update(bad)
    with pytest.raises(InputError, match="the network rounds"):
        PathUniformity(LPIPSNetwork.random(resize=64))
    with pytest.raises(InputError, match="space is 'v'"):
        PathUniformity("random", space="v")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="sampling is 'start'"):
        PerceptualPathLength("random", sampling="start")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="epsilon is 0"):
        PerceptualPathLength("random", epsilon=0)
