"""The StyleGAN2 of rosinality/stylegan2-pytorch, by its own training loop."""

import importlib.util
import os
import random
import sys
import types

import torch

from benchmarks.parts.gan_setting import CYCLE, cycle_flops, work
from benchmarks.parts.program import Program
from benchmarks.parts.pulled import Pulled
from benchmarks.parts.settings import Setting, random_images

DISCRIMINATOR_EVERY, GENERATOR_EVERY = 16, 4


def load(device: torch.device) -> None:
    """Make the modules of STYLEGAN2_PYTORCH's checkout importable; on CUDA they compile their extensions."""
    sys.path.insert(0, os.environ["STYLEGAN2_PYTORCH"])
    if importlib.util.find_spec("lmdb") is None:  # for reading data sets, which is not measured
        sys.modules["lmdb"] = types.ModuleType("lmdb")
    if device.type == "cpu":  # there it has plain functions and does not use what it would compile
        import torch.utils.cpp_extension

        torch.utils.cpp_extension.load = lambda *_, **__: None


def stylegan2(setting: Setting, half: bool) -> Program:
    """A cycle of iterations of their loop."""
    assert not half, "it has no reduced precision"
    loop, params = started(setting)
    return Program(work(setting), lambda: loop.run(CYCLE), cycle_flops(setting), params, warmup=1)


def started(
    setting: Setting, r1_every: int = DISCRIMINATOR_EVERY, path_length_every: int = GENERATOR_EVERY
) -> tuple[Pulled, int]:
    """Their loop with the optimisers of their script, without its progress bar and sample grids; its parameters."""
    import train
    from model import Discriminator, Generator

    torch.manual_seed(0)
    random.seed(0)
    size, multiplier = setting.image_size, setting.channel_multiplier
    generator, average = (Generator(size, 512, 8, channel_multiplier=multiplier) for _ in range(2))
    discriminator = Discriminator(size, channel_multiplier=multiplier)
    for network in (generator, average, discriminator):
        network.to(setting.device)
    train.accumulate(average.eval(), generator, 0)
    g_optim, d_optim = (
        torch.optim.Adam(
            network.parameters(), lr=0.002 * every / (every + 1), betas=(0.0, 0.99 ** (every / (every + 1)))
        )
        for network, every in ((generator, GENERATOR_EVERY), (discriminator, DISCRIMINATOR_EVERY))
    )
    args = types.SimpleNamespace(
        iter=10**9, start_iter=0, distributed=False, batch=setting.batch, latent=512, mixing=0.9, n_sample=1,
        augment=False, augment_p=0, r1=10, d_reg_every=r1_every, path_regularize=2, path_batch_shrink=2,
        g_reg_every=path_length_every, wandb=False,
    )  # fmt: skip
    train.get_rank = lambda: 1  # only the first process shows progress, draws samples and saves
    loop = Pulled(
        lambda batches: train.train(args, batches, generator, discriminator, g_optim, d_optim, average, setting.device),
        lambda: random_images(setting),  # a new tensor each time: the loop makes it require grad
    )
    params = sum(weight.numel() for network in (generator, discriminator) for weight in network.parameters())
    return loop, params
