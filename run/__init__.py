"""A run's folder: its checkpoints, lock, logs, and the version of the code that made it."""

from tenshot.run.atomic_io import AtomicCheckpointIO
from tenshot.run.fully_sharded import FullySharded
from tenshot.run.run_lock import RunLock
from tenshot.run.run_log import RunLog
from tenshot.run.wandb_log import RunWandb

__all__ = ["AtomicCheckpointIO", "FullySharded", "RunLock", "RunLog", "RunWandb"]
