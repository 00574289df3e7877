"""What runs beside training: seeding, averaging, saving, sample grids, writing images."""

from tenshot.callbacks.ema import EMA
from tenshot.callbacks.evaluate import EvaluateGenerator
from tenshot.callbacks.image_writer import ImageWriter
from tenshot.callbacks.interpolation_strip import InterpolationStrip
from tenshot.callbacks.nan_guard import NanGuard
from tenshot.callbacks.preemption import Preempted, Preemption
from tenshot.callbacks.progress import StepProgress
from tenshot.callbacks.resume_logged_metrics import ResumeLoggedMetrics
from tenshot.callbacks.resumption import Resumption
from tenshot.callbacks.rising_loss import RisingLoss
from tenshot.callbacks.sample_grid import SampleGrid
from tenshot.callbacks.step_checkpoint import StepCheckpoint
from tenshot.callbacks.step_seed import StepSeed
from tenshot.callbacks.tf32 import TF32
from tenshot.callbacks.threads import Threads
from tenshot.callbacks.throughput import Throughput
from tenshot.run.fully_sharded import FullySharded
from tenshot.run.wandb_log import RunWandb

__all__ = [
    "EMA",
    "TF32",
    "EvaluateGenerator",
    "FullySharded",
    "ImageWriter",
    "InterpolationStrip",
    "NanGuard",
    "Preempted",
    "Preemption",
    "ResumeLoggedMetrics",
    "Resumption",
    "RisingLoss",
    "RunWandb",
    "SampleGrid",
    "StepCheckpoint",
    "StepProgress",
    "StepSeed",
    "Threads",
    "Throughput",
]
