"""Public files that the command line starts from: made here, tiny, read, trained on and drawn from."""

from argparse import Namespace
from pathlib import Path

import nvlabs_files
import stylegan2_files
import tiny
import torch

from benchmarks.gpu.commands import Config, config_file, diffusion, faces, gan, tenshot
from benchmarks.gpu.record import Context, Values

WIDE = {4: 8, 8: 8, 16: 6, 32: 3}
"""Channels by side of a StyleGAN2 of 32 px."""


def run(context: Context) -> None:
    """A row ``layout …`` for each, dry for one of each program's."""
    context.run("methods", "layout guided-diffusion .pt", lambda: start(context, adm(context), 16))
    for name, side in (("CDC", 32),) if context.dry else (("StyleGAN2", 16), ("CDC", 32), ("MixDL", 32)):
        context.run(
            "methods", f"layout rosinality .pt {name}", lambda n=name, s=side: start(context, port(context, n, s), s)
        )
    context.run("methods", "layout NVlabs .pkl", lambda: start(context, pickled(context), 16))


def start(context: Context, model: Config, side: int) -> Values:
    """Train two steps from a file, and draw, dry only the first."""
    folder = context.folder / f"layout{len(list(context.folder.glob('layout*')))}"
    data = faces(image_size=side, domain="sunglasses", shots=10)
    config = config_file(context, model, 2, data, log_every_n_steps=1)
    tenshot("fit", "--config", config, "--trainer.default_root_dir", folder)
    if not context.dry or folder.name == "layout0":
        tenshot("predict", "--ckpt_path", folder, "--images.count", "2")
        assert len(list((folder / "images").glob("*.png"))) == 2
    return {}


def adm(context: Context) -> Config:
    """A U-Net under the names of guided-diffusion; what shapes do not tell is told."""
    path = context.folder / "adm.pt"
    module = tiny.randomised(tiny.ddpm())
    torch.save(tiny.public_state(module.unet.state_dict()), path)
    unet = {name: list(value) if isinstance(value, tuple) else value for name, value in tiny.UNET.items()}
    return diffusion(context, init_from=str(path), unet=unet, diffusion={"num_steps": 1000})


def port(context: Context, name: str, side: int) -> Config:
    """What rosinality's training saves, and CDC's and MixDL's."""
    path = context.folder / f"port_{name}.pt"
    content = stylegan2_files.checkpoint(latent_avg=torch.linspace(-1, 1, 5))
    if side == 32:
        content |= {
            "g": stylegan2_files.generator_state(WIDE, seed=2),
            "g_ema": stylegan2_files.generator_state(WIDE),
            "d": stylegan2_files.discriminator_state(WIDE),
            "args": Namespace(size=32, n_mlp=3, path="data", ckpt=None),
        }
    torch.save(content, path)
    return gan(context, name, init_from=str(path))


def pickled(context: Context) -> Config:
    """A pickle of StyleGAN2-ADA's code, as it writes them."""
    average = torch.linspace(-1, 1, 5)
    networks = {
        name: nvlabs_files.network("Generator", nvlabs_files.nvlabs_state(stylegan2_files.generator_state(), average))
        for name in ("G", "G_ema")
    }
    judge = nvlabs_files.nvlabs_discriminator(stylegan2_files.discriminator_state())
    path: Path = nvlabs_files.dump(
        networks | {"D": nvlabs_files.network("Discriminator", judge)}, context.folder / "network.pkl"
    )
    return gan(context, init_from=str(path))
