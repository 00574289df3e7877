"""What metrics ask of a feature network and do with it, whichever metric it is."""

import math

import pytest
import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from tenshot.errors import InputError
from tenshot.metrics import FrechetDistance, ImageMetric, InceptionScore, KernelDistance, PrecisionRecall
from tenshot.models.features import RandomFeatures

ALL = [FrechetDistance, KernelDistance, InceptionScore, PrecisionRecall]


def random_images(count: int, seed: int = 0) -> Tensor:
    return torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(seed)) * 2 - 1


class Watched(RandomFeatures):
    """Counts the images it sees."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = 0

    def forward(self, x: Tensor) -> Tensor:
        self.seen += len(x)
        return super().forward(x)


class Spy(nn.Module):
    """A user's network, which notes how it is run."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.dropout = nn.Linear(3, 4), nn.Dropout()

    def forward(self, x: Tensor) -> Tensor:
        self.got, self.inference = x, torch.is_inference_mode_enabled()
        self.products = torch.backends.cuda.matmul.fp32_precision
        return self.linear(self.dropout(x.mean(dim=(2, 3))))


def both_sets(metric: ImageMetric, *batches: Tensor) -> ImageMetric:
    for batch in batches:
        metric.update(batch)
        if metric.compares:
            metric.update(batch.flip(2), real=True)
    return metric


@pytest.mark.parametrize("metric", ALL)
def test_results_are_named_by_untrained_features_and_say_what_they_rest_on(metric: type[ImageMetric]):
    report = both_sets(metric("random"), random_images(12)).report()
    assert all("_random" in name for name in report.values)
    assert all(math.isfinite(value) for value in report.values.values())
    assert report.settings["features"] == "random"
    assert report.settings["weights_sha256"] == RandomFeatures().weights_sha256
    assert report.settings["n_generated"] == 12
    assert report.settings.get("n_real", 12) == 12


def test_a_network_of_the_user_gives_results_its_name_but_never_a_published_one():
    network = Spy()
    assert list(both_sets(FrechetDistance(network), random_images(4)).report().values) == ["fd_custom"]
    network.name = "inception"
    assert list(both_sets(FrechetDistance(network), random_images(4)).report().values) == ["fd_inception"]
    network.name = "vgg16"
    assert list(both_sets(PrecisionRecall(network), random_images(4)).report().values) == [
        "precision_vgg16",
        "recall_vgg16",
    ]


def test_the_weights_of_a_network_of_the_user_are_in_the_settings():
    network = Spy()
    metric = both_sets(FrechetDistance(network), random_images(2))
    first = metric.report().settings["weights_sha256"]
    network.linear.bias.data += 1
    assert metric.report().settings["weights_sha256"] != first


def test_images_reach_the_network_as_their_file_holds_them():
    network, x = Spy(), random_images(2)
    FrechetDistance(network).update(x)
    assert torch.equal(network.got, ((x + 1) * 127.5).round() / 127.5 - 1)
    assert network.got.dtype == torch.float32


def test_networks_run_in_evaluation_mode_in_full_precision_without_gradients():
    network, x = Spy().train(), random_images(2)
    torch.set_float32_matmul_precision("medium")
    try:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            metric = both_sets(FrechetDistance(network), x)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")
    assert network.inference
    assert network.products == "ieee"
    rounded = ((x + 1) * 127.5).round() / 127.5 - 1
    torch.testing.assert_close(metric.generated[0], network.linear(rounded.mean(dim=(2, 3))).detach())


def test_features_come_in_directly_whatever_their_range():
    rows = 1000 * torch.randn(5, 4, dtype=torch.float64)
    metric, before = KernelDistance(nn.Identity()), rows.clone()
    metric.update(rows)
    rows += 1  # whose they are is free to
    assert torch.equal(metric.rows("generated"), before)
    with pytest.raises(InputError, match="images"):
        FrechetDistance("random").update(rows)


@pytest.mark.parametrize(
    ("network", "said"),
    [
        (nn.Flatten(0), r"expected rows \(2, d\), but got \(384,\)"),
        (nn.Threshold(2.0, float("nan")), "NaN or an infinity"),
    ],
)
def test_a_network_that_returns_no_finite_rows_is_refused(network: nn.Module, said: str):
    with pytest.raises(InputError, match=said):
        FrechetDistance(network).update(random_images(2))


def test_names_and_weights_that_do_not_fit_are_refused_at_once():
    with pytest.raises(InputError, match=r"no feature network 'inceptoin' \(did you mean 'inception'"):
        FrechetDistance("inceptoin")
    with pytest.raises(InputError, match="features random takes no weights"):
        FrechetDistance("random", weights="a.pth")
    with pytest.raises(InputError, match=r"a\.pth"):
        FrechetDistance(nn.Identity(), weights="a.pth")


def test_metrics_of_one_network_have_each_image_seen_once():
    network = Watched()
    metrics = [FrechetDistance(network), KernelDistance(network), PrecisionRecall(network)]
    for seed in range(3):
        for metric in metrics:
            metric.update(random_images(5, seed))
    assert network.seen == 15
    own = FrechetDistance("random")
    own.update(random_images(5, 2))
    assert torch.equal(metrics[1].generated[2], own.generated[0])


def test_a_batch_that_was_changed_in_place_is_seen_again():
    network, x = Watched(), random_images(5)
    metric = KernelDistance(network)
    metric.update(x)
    metric.update(x.neg_())
    assert network.seen == 10
    assert not torch.equal(metric.generated[0], metric.generated[1])


def test_a_network_of_the_user_that_was_trained_on_sees_its_batch_again():
    network, metric = Spy(), KernelDistance
    first = metric(network)
    first.update(random_images(3))
    network.linear.weight.data += 1
    second = metric(network)
    second.update(random_images(3))
    assert not torch.equal(first.generated[0], second.generated[0])


@pytest.mark.parametrize("kind", ALL)
def test_the_network_and_what_was_counted_stay_out_of_checkpoints_and_optimisers(kind: type[ImageMetric]):
    module = LightningModule()
    module.metric = both_sets(kind(Spy()), random_images(12))
    assert not module.state_dict()
    assert not list(module.parameters())


def test_states_stay_in_host_memory_in_double_precision_where_the_module_moves():
    metric = FrechetDistance(nn.Identity())
    metric.update(torch.randn(20, 4))
    before = metric.generated_products
    metric.to("meta").half()
    assert metric.generated_products is before
    assert before.dtype == torch.float64


@pytest.mark.parametrize("kind", ALL)
def test_results_are_of_all_updates_so_far_and_gone_after_a_reset(kind: type[ImageMetric]):
    metric = both_sets(kind("random"), random_images(12, 0))
    first = metric.report()
    assert metric.report() == first
    both_sets(metric, random_images(12, 1))
    second = metric.report()
    assert second.values != first.values
    assert both_sets(kind("random"), random_images(12, 0), random_images(12, 1)).report() == second
    metric.reset()
    with pytest.warns(UserWarning, match="before the ``update``"):
        assert all(math.isnan(value) for value in metric.report().values.values())
    assert both_sets(metric, random_images(12, 0)).report() == first


@pytest.mark.parametrize("count", [6, 700])  # as rows, as sums
def test_real_images_may_be_kept_for_the_next_generator(count: int):
    x, y, real = (torch.randn(count, 8, generator=torch.Generator().manual_seed(seed)) for seed in range(3))
    for kind in (FrechetDistance, KernelDistance):
        metric, fresh = kind(nn.Identity()), kind(nn.Identity())
        metric.update(real, real=True)
        metric.update(x)
        metric.reset_generated()
        metric.update(y)
        fresh.update(real, real=True)
        fresh.update(y)
        assert metric.report() == fresh.report()


@pytest.mark.parametrize("kind", ALL)
def test_compute_returns_the_headline_of_the_report(kind: type[ImageMetric]):
    metric = both_sets(kind("random"), random_images(12))
    computed, values = metric.compute(), list(metric.report().values.values())
    assert [float(value) for value in (computed if isinstance(computed, tuple) else (computed,))] == values


def test_an_empty_batch_counts_nothing():
    metric = FrechetDistance("random")
    metric.update(torch.empty(0, 3, 8, 8))
    assert metric.report().settings["n_generated"] == 0


@pytest.mark.parametrize("kind", ALL)
def test_called_as_a_module_it_counts_the_batch_once(kind: type[ImageMetric]):
    metric, updated = kind(nn.Identity()), kind(nn.Identity())
    rows = torch.randn(30, 4)
    metric(rows)
    updated.update(rows)
    assert metric.report() == updated.report() or math.isnan(next(iter(metric.report().values.values())))
    assert metric.report().settings == updated.report().settings


def test_copies_share_the_network_and_not_the_counts():
    metric = both_sets(FrechetDistance("random"), random_images(5))
    copy = metric.clone()
    copy.update(random_images(3, 1))
    assert copy.features.network is metric.features.network
    assert metric.report().settings["n_generated"] == 5
    assert copy.report().settings["n_generated"] == 8
