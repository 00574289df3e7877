"""The Inception of 2015 that FID, KID and the Inception Score are defined by."""

import io
from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from tenshot.errors import InputError
from tenshot.models.features.network import FeatureNetwork, grey_levels
from tenshot.models.features.resize import resize_like_tensorflow1
from tenshot.models.pretrained import read_state_dict, weight_file

__all__ = ["InceptionFeatures", "PytorchFidFeatures"]

SIDE = 299
SPATIAL_CHANNELS = 7
"""Of the map of sFID that count (arXiv 2103.03841, and guided-diffusion's evaluator)."""


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
        return self.outputs(x)["features"]

    def outputs(self, x: Tensor) -> dict[str, Tensor]:
        """``features``, and ``spatial``: the first 7 channels of the 1x1 branch of Mixed_6d, after its ReLU.

        That branch is the graph's ``mixed_6/conv``, whose map of 17 x 17 sFID is of.

        (N, 3, H, W) in [-1, 1]  ->  (N, 2048), (N, 7 * 17 * 17)
        """
        x = self.prepared(grey_levels(x)).contiguous(memory_format=torch.channels_last)
        found = {}
        for name, layer in self.layers.named_children():
            x = layer(x)
            if name == "Mixed_6d":  # its 1x1 branch comes first
                found["spatial"] = x[:, :SPATIAL_CHANNELS].flatten(1)
        return found | {"features": x.flatten(1)}

    def prepared(self, grey: Tensor) -> Tensor:
        """(N, 3, H, W) in 0 ... 255  ->  (N, 3, 299, 299) as the network takes it."""
        return (resize_like_tensorflow1(grey, SIDE) - 128) / 128

    def logits(self, features: Tensor) -> Tensor:
        """(N, 2048) features  ->  (N, 1008) logits of the classes, without bias."""
        return features @ self.unbiased_head.T


class PytorchFidFeatures(InceptionFeatures):
    """The same network on images that are resized as the package pytorch-fid does: half-pixel bilinear, in [-1, 1].

    FID of CDC, MixDL and CRDI is reported with it. Its results have a name of their own.

    Args:
        weights: As for :class:`InceptionFeatures`.
    """

    def __init__(self, weights: str | None = None) -> None:
        super().__init__(weights)
        self.name, self.published = f"{self.name}_pytorch_fid", False
        self.resize = f"bilinear to {SIDE}, half-pixel centres, as pytorch-fid"

    def prepared(self, grey: Tensor) -> Tensor:
        """(N, 3, H, W) in 0 ... 255  ->  (N, 3, 299, 299) as pytorch-fid gives it to the network."""
        return F.interpolate(grey / 127.5 - 1, (SIDE, SIDE), mode="bilinear", align_corners=False)


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
