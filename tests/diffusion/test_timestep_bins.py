import numpy as np
import torch

from tenshot.diffusion.timesteps import TimestepBinMeans


def test_means_by_bin_since_the_last_time():
    rng = np.random.default_rng(0)
    bins = TimestepBinMeans(1000)
    t = np.concatenate([[0, 249, 250, 499, 999], rng.integers(750, 1000, 20)])
    losses = {"mse": rng.normal(size=len(t)), "vb": rng.normal(size=len(t))}
    for part in (slice(0, 7), slice(7, None)):
        chosen = {name: torch.tensor(value[part]) for name, value in losses.items()}
        bins.update(chosen, torch.tensor(t[part]))
    means = {name: value.item() for name, value in bins.pop().items()}

    expected = {
        f"{name}_q{k}": value[t // 250 == k].mean() for name, value in losses.items() for k in (0, 1, 3)
    }  # no timestep was in the third bin
    assert means.keys() == expected.keys()
    np.testing.assert_allclose([means[name] for name in expected], list(expected.values()), rtol=1e-5)

    bins.update({"mse": torch.tensor([5.0])}, torch.tensor([600]))
    assert {name: value.item() for name, value in bins.pop().items()} == {"mse_q2": 5.0}


def test_sums_are_not_rounded_under_autocast():
    """In bfloat16 a count of 278 is 280."""
    plain, mixed = TimestepBinMeans(4), TimestepBinMeans(4)
    losses, t = {"mse": 1 + torch.rand(278)}, torch.zeros(278, dtype=torch.int64)
    plain.update(losses, t)
    with torch.autocast("cpu", torch.bfloat16):
        mixed.update(losses, t)
    assert mixed.state_dict()[""].tolist() == [278, 0, 0, 0]
    assert torch.equal(mixed.state_dict()["mse"], plain.state_dict()["mse"])
