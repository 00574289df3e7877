import numpy as np
import pytest
import torch

from tenshot.metrics.latent_paths import interpolate, slerp

A, B = torch.randn(2, 5, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
T = torch.tensor([0.0, 0.2, 0.5, 0.9, 1.0], dtype=torch.float64)


def test_directions_go_along_the_great_circle_at_a_steady_pace():
    between = slerp(A, B, T).numpy()
    for a, b, t, found in zip(A.numpy(), B.numpy(), T.tolist(), between, strict=True):
        cosine = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
        angle = np.arccos(a @ found / np.linalg.norm(a) / np.linalg.norm(found))
        assert angle == pytest.approx(t * np.arccos(cosine), abs=1e-7)
        inside = np.linalg.lstsq(np.stack([a, b]).T, found, rcond=None)  # in the plane of both
        assert inside[1] == pytest.approx(0, abs=1e-20)
        assert np.linalg.norm(found) == pytest.approx((1 - t) * np.linalg.norm(a) + t * np.linalg.norm(b))


@pytest.mark.parametrize("space", ["z", "w"])
def test_the_ends_are_the_ends(space):
    for t, end in ((0.0, A), (1.0, B)):
        torch.testing.assert_close(interpolate(A, B, torch.full((5,), t, dtype=torch.float64), space), end)


def test_straight_in_w():
    torch.testing.assert_close(interpolate(A, B, T, "w"), (1 - T)[:, None] * A + T[:, None] * B)


def test_a_whole_path_at_once():
    path = interpolate(A[:, None], B[:, None], T, "z")
    for number, t in enumerate(T):
        torch.testing.assert_close(path[:, number], slerp(A, B, t.expand(5)))


def test_a_latent_and_itself():
    assert torch.equal(slerp(A, A, T).isfinite(), torch.ones_like(A, dtype=torch.bool))
    torch.testing.assert_close(slerp(A, A, T), A)
