"""The Inception of 2015 that FID, KID and the Inception Score are defined by."""

import io
from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from tenshot.errors import InputError
from tenshot.models.features.network import FeatureNetwork, grey_levels
from tenshot.models.features.resize import resize_like_tensorflow1
from tenshot.models.pretrained import read_state_dict, weight_file

__all__ = ["InceptionFeatures"]

SIDE = 299


class InceptionFeatures(FeatureNetwork):
    """torch-fidelity's ``inception-v3-compat``: the pool of 2048 features, and logits without their bias.

    Its batch normalisation is folded into the convolutions, and it runs in channels_last: the same numbers to 1e-6,
    in about half the time.

    Args:
        weights: Weight file; none for the public one, see :func:`tenshot.models.pretrained.weight_file`.

    Raises:
        InputError: No such file, or weights of another network.
    """

    unbiased_head: Tensor

    def __init__(self, weights: str | None = None) -> None:
        found = weight_file("inception", weights)
        name = "inception" if found.published else f"inception_{found.sha256[:8]}"
        super().__init__(name, found.sha256, found.published, resize=f"TensorFlow 1 bilinear to {SIDE}")
        layers = _layers(read_state_dict(found.path), str(found.path))
        head = layers.pop("fc")
        assert isinstance(head, nn.Linear)
        self.layers = nn.Sequential(layers).to(memory_format=torch.channels_last)
        self.register_buffer("unbiased_head", head.weight.detach().clone())
        self.freeze()

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) in [-1, 1]  ->  (N, 2048)."""
        x = (resize_like_tensorflow1(grey_levels(x), SIDE) - 128) / 128
        return self.layers(x.contiguous(memory_format=torch.channels_last)).flatten(1)

    def logits(self, features: Tensor) -> Tensor:
        """(N, 2048) features  ->  (N, 1008) logits of the classes, without bias."""
        return features @ self.unbiased_head.T


def _layers(state: dict[str, Tensor], where: str) -> OrderedDict[str, nn.Module]:
    """The graph's layers in the order they run in, each convolution with its normalisation folded in."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    file = io.BytesIO()  # the extractor reads a file, running code that may be in it: it gets one without
    torch.save(state, file)
    file.seek(0)
    try:
        with torch.random.fork_rng(devices=[]):  # what it draws before it reads is not taken from others
            extractor = FeatureExtractorInceptionV3(
                "inception-v3-compat", ["2048"], feature_extractor_weights_path=file
            )
    except RuntimeError:
        raise InputError(
            f"{where}: not the weights of torch-fidelity's Inception (torchvision's is another): give "
            "weights-inception-2015-12-05-6726825d.pth"
        ) from None
    for module in extractor.modules():
        if isinstance(getattr(module, "bn", None), nn.BatchNorm2d):
            module.conv, module.bn = fuse_conv_bn_eval(module.conv, module.bn), nn.Identity()
    return OrderedDict(extractor.named_children())
