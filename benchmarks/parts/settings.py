"""What both sides compute: the network, the batch, and how many operations that takes."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from tenshot.models import UNetConfig

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Setting:
    """Size of the problem; the defaults are an ADM U-Net of 25.1 M parameters. A GAN has its own channels."""

    batch: int
    image_size: int = 64
    channels: int = 64
    ddim_steps: int = 25
    device: torch.device = CPU
    channel_multiplier: int = 1
    unet: UNetConfig | None = None

    def network(self) -> UNetConfig:
        """The architecture: ``unet``, or one with 64-channel heads, or one head where the network is narrower."""
        return self.unet or UNetConfig(
            image_size=self.image_size,
            channels=self.channels,
            channel_mult=(1, 2, 3, 4),
            num_res_blocks=2,
            attention_resolutions=(self.image_size // 4, self.image_size // 8),
            head_channels=min(64, self.channels),
        )

    def work(self, what: str) -> str:
        return f"{what}, {self.image_size} px, {self.network().channels} channels, batch {self.batch}"


def random_images(setting: Setting) -> Tensor:
    """A batch of noise in [-1, 1]: arithmetic takes as long on noise as on faces, but less on zeros."""
    x = torch.rand(setting.batch, 3, setting.image_size, setting.image_size, generator=torch.Generator().manual_seed(0))
    return (2 * x - 1).to(setting.device)


def randomise(network: nn.Module) -> None:
    """Give all weights values: a fresh network of this kind is half zeros."""
    torch.manual_seed(0)
    for parameter in network.parameters():
        if parameter.dim() > 1:
            nn.init.kaiming_uniform_(parameter, a=5**0.5)


def forward_flops(network: nn.Module, setting: Setting) -> float:
    """Operations of one evaluation; a training step needs three times as many."""
    t = torch.zeros(setting.batch, dtype=torch.int64, device=setting.device)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(random_images(setting), t)
    return counter.get_total_flops()
