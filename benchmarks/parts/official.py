"""The official code as its own scripts run it, in one process and without MPI."""

import importlib.util
import os
import sys
import tempfile
import types

import torch
import torch.distributed as dist
from torch import nn

from benchmarks.parts.program import Program
from benchmarks.parts.settings import Setting, forward_flops, random_images, randomise


def load(task: str) -> None:
    """Make ``guided_diffusion`` importable: of GUIDED_DIFFUSION's checkout, or the fork in that of DOMAINSTUDIO."""
    fork = task == "adaptation"
    sys.path.insert(
        0, os.path.join(os.environ["DOMAINSTUDIO"], "Unconditional") if fork else os.environ["GUIDED_DIFFUSION"]
    )
    for name in ("mpi4py", "blobfile"):  # imported there, but only used with several processes or remote files
        if importlib.util.find_spec(name) is None:
            stub = types.ModuleType(name)
            stub.MPI = None
            sys.modules[name] = stub


def network(setting: Setting, steps: str = "", half: bool = False) -> tuple[nn.Module, object]:
    """Their network with random weights, and their diffusion."""
    from guided_diffusion import script_util

    config = setting.network()
    flags = script_util.model_and_diffusion_defaults() | {
        "image_size": setting.image_size,
        "num_channels": config.channels,
        "channel_mult": ",".join(str(mult) for mult in config.channel_mult),
        "num_res_blocks": config.num_res_blocks,
        "attention_resolutions": ",".join(str(side) for side in config.attention_resolutions),
        "num_head_channels": config.head_channels,
        "use_scale_shift_norm": True,
        "resblock_updown": True,
        "learn_sigma": True,
        "timestep_respacing": steps,
        "dropout": config.dropout,
        "use_fp16": half,
    }
    with setting.device:
        model, *_, diffusion = script_util.create_model_and_diffusion(**flags)
        randomise(model)
    return model.to(setting.device), diffusion


def alone(device: torch.device) -> None:
    """The process group that their loops ask for, of this process."""
    if not dist.is_initialized():
        backend = "nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1)


def training(setting: Setting, half: bool) -> Program:
    """A step of their training loop: losses, AdamW, norms and quartiles in the log, average of the weights."""
    from guided_diffusion import logger, train_util

    logger.configure(dir=tempfile.mkdtemp(), format_strs=["log"])
    alone(setting.device)
    model, diffusion = network(setting)
    flops = 3 * forward_flops(model, setting)
    if half:
        model.dtype = torch.float16  # of its inputs; the loop converts the weights
    loop = train_util.TrainLoop(
        model=model, diffusion=diffusion, data=None, batch_size=setting.batch, microbatch=-1, lr=1e-4,
        ema_rate="0.9999", log_interval=10, save_interval=10_000, resume_checkpoint="", use_fp16=half,
    )  # fmt: skip
    batch = random_images(setting)
    return Program(setting.work("training step"), lambda: loop.run_step(batch, {}), flops, parameters(model))


def adaptation(setting: Setting, half: bool) -> Program:
    """A step of the DDPM-PA authors' training loop, with the losses and the source model of the paper."""
    from guided_diffusion import logger, train_util

    logger.configure(dir=tempfile.mkdtemp(), format_strs=["log"])
    alone(setting.device)
    (model, diffusion), (source, _) = (network(setting, half=half) for _ in range(2))
    for unet in () if half else (model, source):  # its constructor makes halves of all, which float32 input breaks
        unet.convert_to_fp32()
        unet.dtype = torch.float32
    vars(diffusion).update(pair_weight=4.0, hf_pair_weight=4.0, hf_mse_weight=0.05)  # its constructor drops them
    weights = os.path.join(tempfile.mkdtemp(), "source.pt")
    torch.save(model.state_dict(), weights)
    train_util.dist_util.load_state_dict = torch.load  # without MPI
    flops = 4 * forward_flops(model, setting)
    loop = train_util.TrainLoop(
        model=model, model_base=source, diffusion=diffusion, data=None, batch_size=setting.batch, microbatch=-1,
        lr=1e-4, ema_rate="0.9999", log_interval=10, save_interval=10_000, resume_checkpoint="",
        resume_base_checkpoint=weights, use_fp16=half,
    )  # fmt: skip
    batch = random_images(setting)
    return Program(setting.work("DDPM-PA step"), lambda: loop.run_step(batch, {}), flops, parameters(model))


def sampling(setting: Setting, half: bool) -> Program:
    """A DDIM chain as their sampling script draws it."""
    model, diffusion = network(setting, steps=f"ddim{setting.ddim_steps}")
    flops = setting.ddim_steps * forward_flops(model, setting)
    if half:
        model.convert_to_fp16()
        model.dtype = torch.float16
    model.eval()
    shape = tuple(random_images(setting).shape)
    return Program(
        setting.work(f"DDIM-{setting.ddim_steps}"),
        lambda: diffusion.ddim_sample_loop(model, shape, clip_denoised=True, device=setting.device),
        flops,
        parameters(model),
    )


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())
