"""The StyleGAN2 of NVlabs/stylegan2-ada-pytorch by its own losses, in the phases of its training loop."""

import copy
from collections.abc import Callable

import torch

from tenshot.models import StyleGAN2Config


class Training:
    """Their networks, optimisers and losses, and the phases of their training loop.

    Args:
        batch: Images.
        config: Of ours; theirs is made like it. Their configuration ``stylegan2`` is the published architecture.
        half: How many resolutions are in float16; theirs is 4.
    """

    def __init__(self, device: torch.device, batch: int, config: StyleGAN2Config, half: int) -> None:
        from torch_utils.ops import conv2d_gradfix, grid_sample_gradfix
        from training.loss import StyleGAN2Loss
        from training.networks import Discriminator, Generator

        conv2d_gradfix.enabled = grid_sample_gradfix.enabled = True
        width, size = config.latent_dim, config.image_size
        shape = {"c_dim": 0, "img_resolution": config.image_size, "img_channels": 3}
        common = {"channel_base": config.channel_base, "channel_max": config.max_channels, "num_fp16_res": half}
        common["conv_clamp"] = 256 if half else None
        self.generator = Generator(
            z_dim=width, w_dim=width, mapping_kwargs={"num_layers": config.mapping_layers},
            synthesis_kwargs=dict(common), **shape,
        )  # fmt: skip
        self.discriminator = Discriminator(**common, epilogue_kwargs={"mbstd_group_size": 4}, **shape)
        for network in (self.generator, self.discriminator):
            network.train().requires_grad_(False).to(device)
        self.average = copy.deepcopy(self.generator).eval()
        self.loss = StyleGAN2Loss(device, self.generator.mapping, self.generator.synthesis, self.discriminator)
        self.z = torch.randn(batch, width, device=device)
        self.c = torch.zeros(batch, 0, device=device)
        self.real = torch.rand(batch, 3, size, size, device=device) * 2 - 1
        self.decay = 0.5 ** (batch / 10_000)
        self.optimizers = {
            network: torch.optim.Adam(
                network.parameters(), lr=0.002 * share, betas=(0.0, 0.99**share), eps=1e-8
            )
            for network, share in ((self.generator, 4 / 5), (self.discriminator, 16 / 17))
        }  # fmt: skip

    def phase(self, name: str) -> Callable[[], None]:
        """What a phase of that name (Gmain, Greg, Dmain, Dreg) does in an iteration."""
        network = self.generator if name.startswith("G") else self.discriminator
        interval = {"Greg": 4, "Dreg": 16}.get(name, 1)

        def step() -> None:
            self.optimizers[network].zero_grad(set_to_none=True)
            network.requires_grad_(True)
            self.loss.accumulate_gradients(
                phase=name, real_img=self.real, real_c=self.c, gen_z=self.z, gen_c=self.c, sync=True, gain=interval
            )
            network.requires_grad_(False)
            for weight in network.parameters():
                if weight.grad is not None:
                    torch.nan_to_num(weight.grad, nan=0, posinf=1e5, neginf=-1e5, out=weight.grad)
            self.optimizers[network].step()

        return step

    @torch.no_grad()
    def move_average(self) -> None:
        """Of the generator's weights, one by one as published."""
        for average, weight in zip(self.average.parameters(), self.generator.parameters(), strict=True):
            average.copy_(weight.lerp(average, self.decay))
        for average, value in zip(self.average.buffers(), self.generator.buffers(), strict=True):
            average.copy_(value)
