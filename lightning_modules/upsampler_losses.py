"""What PITI's upsampler adds to the diffusion loss, in numbers: the perceptual and the adversarial loss."""

from dataclasses import dataclass

from lightning.pytorch.utilities import rank_zero_info

from tenshot.errors import InputError, check_range
from tenshot.models.features import FeatureMaps, MapsName, feature_maps

__all__ = ["PatchAdversary", "Perceptual"]


@dataclass(frozen=True)
class Perceptual:
    """The perceptual loss. The defaults are those of PITI's code.

    Args:
        weight: Of the loss; 0: none, and no network is read.
        network: What compares images: ``vgg19``, which the published weight goes with, or ``efficientnet_lite0``, which
            is installed with Tenshot.
        vgg19_weights: File of VGG19's weights; none: the public one.
    """

    weight: float = 0.004
    network: MapsName = "vgg19"
    vgg19_weights: str | None = None

    def __post_init__(self) -> None:
        check_range("--model.perceptual.weight", self.weight, 0)

    def read(self, side: int) -> FeatureMaps:
        """The network, for images of that side.

        Raises:
            InputError: Its file is missing or another's, or it does not take such images.
        """
        network = feature_maps(self.network, self.vgg19_weights)
        if side % network.multiple:
            raise InputError(
                f"images of {side} px: {self.network} takes multiples of {network.multiple}: set "
                "--model.perceptual.weight 0"
            )
        rank_zero_info(f"perceptual loss: {self.network}, sha256 {network.weights_sha256[:12]}…")
        return network


@dataclass(frozen=True)
class PatchAdversary:
    """The discriminator of patches and its losses (WGAN-GP). The defaults are those of PITI's code.

    Args:
        weight: Of the adversarial loss; 0: none, and the discriminator is not trained.
        gradient_penalty: Weight of the discriminator's gradient penalty.
        channels: After the discriminator's first convolution.
        layers: Its convolutions of stride 2: 3 judge patches of 70 px, 2 of 34 px.
    """

    weight: float = 0.01
    gradient_penalty: float = 10.0
    channels: int = 64
    layers: int = 3

    def __post_init__(self) -> None:
        for name, least in (("weight", 0), ("gradient_penalty", 0), ("channels", 1), ("layers", 1)):
            check_range(f"--model.adversary.{name}", getattr(self, name), least)

    def refuse_small(self, side: int, least: int) -> None:
        """Make sure that the discriminator can judge images.

        Args:
            side: Of the images.
            least: That it takes.

        Raises:
            InputError: It cannot.
        """
        if side < least:
            raise InputError(
                f"images of {side} px leave the discriminator nothing to judge, which takes {least} at least: lower "
                "--model.adversary.layers, or set --model.adversary.weight 0"
            )
