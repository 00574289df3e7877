"""VGG16's second fully connected layer, which precision and recall are published with."""

import torch
from torch import Tensor
from torchvision.models import vgg16
from torchvision.transforms.functional import normalize

from tenshot.models.features.network import FeatureNetwork, grey_levels
from tenshot.models.features.resize import resize_like_tensorflow1
from tenshot.models.pretrained import fill, read_state_dict, weight_file

__all__ = ["VGG16Features"]

SIDE = 224
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, as fractions of 255


class VGG16Features(FeatureNetwork):
    """torchvision's VGG16 up to ``fc2_relu``, 4096 features; resized and normalised as torch-fidelity does.

    Args:
        weights: Weight file; none for the public one, see :func:`tenshot.models.pretrained.weight_file`.

    Raises:
        InputError: No such file, or weights of another network.
    """

    def __init__(self, weights: str | None = None) -> None:
        found = weight_file("vgg16", weights)
        name = "vgg16" if found.published else f"vgg16_{found.sha256[:8]}"
        super().__init__(name, found.sha256, found.published, resize=f"TensorFlow 1 bilinear to {SIDE}")
        with torch.device("meta"):  # 138 million random numbers not drawn
            network = vgg16()
        network = fill(network.to_empty(device="cpu"), read_state_dict(found.path), str(found.path))
        network.classifier = network.classifier[:5]  # fc1, relu, dropout, fc2, relu
        self.network = network.to(memory_format=torch.channels_last)
        self.freeze()

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) in [-1, 1]  ->  (N, 4096)."""
        x = normalize(resize_like_tensorflow1(grey_levels(x) / 255, SIDE), list(MEAN), list(STD))
        return self.network(x.contiguous(memory_format=torch.channels_last))
