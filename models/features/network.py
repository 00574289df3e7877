"""What a feature network is."""

import hashlib

import torch
from torch import Tensor, nn

__all__ = ["FeatureNetwork", "grey_levels", "weights_hash"]


class FeatureNetwork(nn.Module):
    """A frozen network: images (N, 3, H, W), float32 in [-1, 1] of any size  ->  (N, d) float32.

    Args:
        name: What results are named by.
        weights_sha256: Hash of its weights or of their file.
        published: Whether these are the published weights, so that results may carry the published metric's name.
        resize: What it does to the size of images.
    """

    def __init__(self, name: str, weights_sha256: str, published: bool, resize: str) -> None:
        super().__init__()
        self.name, self.weights_sha256, self.published, self.resize = name, weights_sha256, published, resize

    def freeze(self) -> None:
        """To be called when built: no gradients, evaluation mode for good."""
        self.requires_grad_(False)
        self.train(False)

    def outputs(self, x: Tensor) -> dict[str, Tensor]:
        """All rows that one pass gives, by name; ``features`` are what ``forward`` returns.

        (N, 3, H, W) in [-1, 1]  ->  each (N, d)
        """
        return {"features": self(x)}

    def train(self, mode: bool = True) -> "FeatureNetwork":
        """Stays in evaluation mode."""
        return super().train(False)


def weights_hash(module: nn.Module) -> str | None:
    """Hexadecimal SHA-256 of all weights, by name; none for a module without any."""
    digest, state = hashlib.sha256(), module.state_dict()
    for name in sorted(state):
        value = state[name].detach().cpu().contiguous()
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest() if state else None


def grey_levels(x: Tensor) -> Tensor:
    """Images in [-1, 1]  ->  0 … 255, whole numbers again, float32."""
    return ((x.float() + 1) * 127.5).round()
