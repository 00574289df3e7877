"""What runs beside training: seeding, averaging, saving, sample grids, writing pictures."""

from tenshot.callbacks.atomic_io import AtomicCheckpointIO
from tenshot.callbacks.ema import EMA
from tenshot.callbacks.evaluate import EvaluateGenerator
from tenshot.callbacks.fully_sharded import FullySharded
from tenshot.callbacks.image_writer import ImageWriter
from tenshot.callbacks.interpolation_strip import InterpolationStrip
from tenshot.callbacks.last_values import LastValues
from tenshot.callbacks.nan_guard import NanGuard
from tenshot.callbacks.preemption import Preempted, Preemption
from tenshot.callbacks.progress import StepProgress
from tenshot.callbacks.resumption import Resumption
from tenshot.callbacks.run_lock import RunLock
from tenshot.callbacks.run_log import RunLog
from tenshot.callbacks.sample_grid import SampleGrid
from tenshot.callbacks.step_checkpoint import StepCheckpoint
from tenshot.callbacks.step_seed import StepSeed
from tenshot.callbacks.tf32 import TF32
from tenshot.callbacks.throughput import Throughput
from tenshot.callbacks.wandb_log import RunWandb

__all__ = [
    "EMA",
    "TF32",
    "AtomicCheckpointIO",
    "EvaluateGenerator",
    "FullySharded",
    "ImageWriter",
    "InterpolationStrip",
    "LastValues",
    "NanGuard",
    "Preempted",
    "Preemption",
    "Resumption",
    "RunLock",
    "RunLog",
    "RunWandb",
    "SampleGrid",
    "StepCheckpoint",
    "StepProgress",
    "StepSeed",
    "Throughput",
]
