"""A network that reads off a drawn face what was drawn: a measure of what generated faces keep of the source."""

from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torchvision.transforms.functional import pil_to_tensor

from tenshot.datamodules import SyntheticFaces
from tenshot.datamodules.pixels import from_pixels
from tenshot.errors import InputError
from tenshot.metrics import FrechetDistance

from .sets import FAR, SHOTS, SIZE, TRUE

DOMAINS = ("faces", "sunglasses", "babies")
GROUPS = {
    "background": ("background_r", "background_g", "background_b"),
    "skin tone": ("skin_tone",),
    "pose": ("head_x", "head_y", "turn"),
    "hair": ("hair_r", "hair_g", "hair_b", "hair_length"),
}
NAMES = tuple(name for names in GROUPS.values() for name in names)
IMAGES, HELD_OUT, STEPS, BATCH = 6000, 500, 1000, 64  # images of each domain
SIDE = 32
SEED = 77  # of heads that no generator was trained on


class AttributeNetwork(nn.Module):
    """Images (N, 3, H, H) float32 in [-1, 1]  ->  features (N, 128), for metrics that take any feature network.

    It looks at means of pixels, 32 in a row: faces of 64 px are then as those drawn at 32, to half a grey level.
    """

    name = "attributes"

    def __init__(self) -> None:
        super().__init__()
        widths, blocks = (3, 32, 64, 96, 128), []
        for narrow, wide in pairwise(widths):
            blocks += [nn.Conv2d(narrow, wide, 4, 2, 1), nn.GroupNorm(8, wide), nn.SiLU()]
            blocks += [nn.Conv2d(wide, wide, 3, 1, 1), nn.GroupNorm(8, wide), nn.SiLU()]
        self.trunk = nn.Sequential(*blocks, nn.Flatten(), nn.Linear(4 * widths[-1], 128), nn.SiLU())
        self.attributes, self.domain = nn.Linear(128, len(NAMES)), nn.Linear(128, len(DOMAINS))

    def forward(self, x: Tensor) -> Tensor:
        """The features."""
        return self.trunk(F.adaptive_avg_pool2d(x, SIDE))

    @torch.no_grad()
    def read(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 (N, 3, H, H)  ->  standardised attributes (N, A), domain probabilities (N, D)."""
        features = torch.cat([self(from_pixels(part)) for part in pixels.split(256)])
        return self.attributes(features), self.domain(features).softmax(dim=1)


def truth(domain: str, start: int, count: int) -> tuple[Tensor, Tensor]:
    """Images uint8 (N, 3, 32, 32) and their attributes (N, A)."""
    source = SyntheticFaces(domain=domain, seed=SEED, num_val=0, image_size=SIDE).reference(count, start=start)
    numbers = range(count)
    a = source.attributes(numbers)
    single = [a.skin_tone, a.head_x, a.head_y, a.turn]
    values = torch.cat([a.background, torch.stack(single, dim=1), a.hair, a.hair_length[:, None]], dim=1)
    return source.read(numbers)["image"], values


def train() -> tuple[AttributeNetwork, dict[str, float]]:
    """Train it; the network, and its R² of each attribute and accuracy on held-out images."""
    torch.manual_seed(0)
    sets = [truth(domain, 0, IMAGES + HELD_OUT) for domain in DOMAINS]
    pixels, values = (torch.cat([one[part][:IMAGES] for one in sets]) for part in (0, 1))
    kinds = torch.arange(len(DOMAINS)).repeat_interleave(IMAGES)
    mean, std = values.mean(0), values.std(0)
    network = AttributeNetwork().to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=1e-2, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=STEPS)
    for step in range(STEPS):
        chosen = torch.randint(len(pixels), (BATCH,))
        x = from_pixels(pixels[chosen])
        x = x + torch.randn_like(x) * 0.1 * torch.rand(BATCH, 1, 1, 1)  # generated images are not as clean
        features = network(x.contiguous(memory_format=torch.channels_last))
        loss = F.mse_loss(network.attributes(features), (values[chosen] - mean) / std)
        loss = loss + 0.3 * F.cross_entropy(network.domain(features), kinds[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 100 == 0:
            print(f"attribute network: step {step}, loss {loss.item():.3f}", flush=True)
    network.eval()
    scores: dict[str, float] = {}
    held_pixels, held_values = (torch.cat([one[part][IMAGES:] for one in sets]) for part in (0, 1))
    found, domains = network.read(held_pixels)
    residual = ((held_values - mean) / std - found).var(0) / ((held_values - mean) / std).var(0)
    scores.update({name: 1 - value for name, value in zip(NAMES, residual.tolist(), strict=True)})
    held_kinds = torch.arange(len(DOMAINS)).repeat_interleave(HELD_OUT)
    scores["domain"] = (domains.argmax(1) == held_kinds).float().mean().item()
    return network, scores


def load(folder: Path) -> AttributeNetwork:
    """The network of an earlier run, trained first if there is none."""
    file = folder / "attributes.safetensors"
    if not file.is_file():
        network, scores = train()
        folder.mkdir(parents=True, exist_ok=True)
        save_file({name: value.contiguous() for name, value in network.state_dict().items()}, file)
        lines = [f"{name},{value:.4f}" for name, value in scores.items()]
        (folder / "attributes.csv").write_text("\n".join(["attribute,r2", *lines]) + "\n")
    network = AttributeNetwork().eval()
    try:
        network.load_state_dict(load_file(file))
    except (OSError, RuntimeError) as error:
        raise InputError(f"{file}: not the attribute network of this code ({error}): delete it") from None
    return network


def images_in(folder: Path) -> Tensor:
    """(N, 3, H, W) uint8."""
    return torch.stack([pil_to_tensor(Image.open(path).convert("RGB")) for path in sorted(folder.glob("*.png"))])


@dataclass
class Truth:
    """A target domain as it is, and what is measured against it.

    Args:
        shots: (K, 3, H, W) uint8.
        copy_limit: Distance to the nearest shot below which an image is called a near-copy: that of the nearest one
            in a hundred true images.
        spread: Of each attribute, as the network reads it off true images.
    """

    shots: Tensor
    copy_limit: float
    spread: Tensor
    real: Tensor = field(repr=False)

    @classmethod
    def of(cls, network: AttributeNetwork, target: str, seed: int) -> "Truth":
        """Draw it."""
        data = SyntheticFaces(domain=target, seed=seed, shots=SHOTS, num_val=0, image_size=SIZE)
        shots = data.train_source.read(range(SHOTS))["image"]
        real = data.reference(TRUE, start=2 * FAR).read(range(TRUE))["image"]
        limit = to_nearest(real, shots).quantile(0.01).item()
        return cls(shots, limit, network.read(real)[0].std(0), real)

    def measure(self, network: AttributeNetwork, images: Tensor, target: str) -> dict[str, float]:
        """Spread of attributes relative to true images (1: as varied), near-copies, transfer, distance."""
        values, domains = network.read(images)
        relative = dict(zip(NAMES, (values.std(0) / self.spread).tolist(), strict=True))
        measured = {
            f"spread of {group}": sum(relative[n] for n in names) / len(names) for group, names in GROUPS.items()
        }
        measured["spread"] = sum(relative.values()) / len(relative)
        measured["near_copies_pixels"] = (to_nearest(images, self.shots) < self.copy_limit).float().mean().item()
        measured["transfer"] = domains[:, DOMAINS.index(target)].mean().item()
        distance = FrechetDistance(network)
        distance.update(self.real, real=True)
        distance.update(images)
        return measured | distance.report().values


def to_nearest(images: Tensor, shots: Tensor) -> Tensor:
    """Root mean squared distance to the nearest shot or its mirror image, in grey levels: (N,)."""
    both = torch.cat([shots, shots.flip(-1)]).flatten(1).float()
    return torch.cdist(images.flatten(1).float(), both).amin(1) / both.shape[1] ** 0.5
