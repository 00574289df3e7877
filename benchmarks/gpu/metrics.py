"""How long metrics take at 256 px: Intra-LPIPS of a thousand images, features of FID; all weights are random."""

from pathlib import Path
from unittest import mock

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.gpu.record import Context, Values, release
from benchmarks.gpu.timing import measure
from tenshot.metrics import FrechetDistance, IntraLPIPS
from tenshot.models.features.inception import InceptionFeatures
from tenshot.models.features.lpips import LPIPSNetwork

STAGE = "metrics"
SHOTS = 10


def run(context: Context) -> None:
    """Rows ``Intra-LPIPS``, ``Inception``, ``Fréchet distance``."""
    context.run(STAGE, "Intra-LPIPS", lambda: intra_lpips(context))
    release()
    network: list[InceptionFeatures] = []
    context.run(STAGE, "Inception", lambda: inception(context, network))
    if network:
        context.run(STAGE, "Fréchet distance", lambda: distance(context, network[0]))
    release()


def random_images(context: Context, count: int, size: int) -> Tensor:
    """(count, 3, size, size) uint8 on the device, smooth as images are, so that clusters form."""
    generator = torch.Generator(context.device).manual_seed(0)
    coarse = torch.rand(count, 3, 8, 8, generator=generator, device=context.device)
    return torch.cat([(255 * F.interpolate(part, size, mode="bilinear")).byte() for part in coarse.split(64)])


def intra_lpips(context: Context) -> Values:
    """Ten shots, clusters capped at 50, VGG16; the images are on the GPU."""
    count, size = (12, 32) if context.dry else (1000, 256)
    network, images = (
        LPIPSNetwork("vgg", weights="random").to(context.device),
        random_images(context, count + SHOTS, size),
    )
    clusters: list[int] = []

    def evaluate() -> None:
        metric = IntraLPIPS(network, cap=50)
        metric.update(images[SHOTS:])
        metric.update(images[:SHOTS], real=True)
        clusters[:] = metric.report().details["cluster_sizes"]

    timing = measure(evaluate, context.device, repeats=3, warmup=1, dry=context.dry)
    return {**timing.values(), "images": count, "size": size, "clusters": clusters}


def inception(context: Context, found: list[InceptionFeatures]) -> Values:
    """Batches through the network of FID, with what resizes them."""
    network = InceptionFeatures(str(random_inception(context.folder))).to(context.device)
    found.append(network)
    batch, size = (2, 32) if context.dry else (128, 256)
    images, other = random_images(context, 2 * batch, size).split(batch)
    metric, turn = FrechetDistance(network), [images, other]

    def update() -> None:
        turn.reverse()  # the same batch twice would be remembered
        metric.update(turn[0])

    timing = measure(update, context.device, dry=context.dry)
    return {**timing.values(), "batch": batch, "images_per_s": 1000 * batch / timing.ms}


def distance(context: Context, network: InceptionFeatures) -> Values:
    """From features of 5000 and 5000 images to the number: float64 products and a root."""
    count = 6 if context.dry else 5000
    rows = torch.randn(2, count, 2048, device=context.device)

    def evaluate() -> None:
        metric = FrechetDistance(torch.nn.Identity())
        metric.update(rows[0])
        metric.update(rows[1], real=True)
        metric.report()

    timing = measure(evaluate, context.device, repeats=3, warmup=1, dry=context.dry)
    return {**timing.values(), "images": count}


def random_inception(folder: Path) -> Path:
    """A file of random weights for the published network, which torch-fidelity builds."""
    from torch_fidelity import feature_extractor_inceptionv3
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    unread = mock.patch.object(feature_extractor_inceptionv3, "load_state_dict_from_url")
    with torch.device("meta"), unread, mock.patch.object(FeatureExtractorInceptionV3, "load_state_dict"):
        network = FeatureExtractorInceptionV3("inception-v3-compat", ["2048"])
    state = network.to_empty(device="cpu").state_dict()
    for name, value in state.items():
        if not value.is_floating_point():
            value.zero_()
        elif value.dim() > 1:
            value.normal_(std=(2 / value[0].numel()) ** 0.5)
        else:
            value.fill_(0.0 if name.endswith(("bias", "mean")) else 1.0)
    path = folder / "inception.pth"
    torch.save(state, path)
    return path
