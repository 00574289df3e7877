"""Where pictures come from: few shots, large folders, drawn faces, and the seeds of the samples to be made."""

from tenshot.datamodules.base import Pictures

__all__ = ["Pictures"]
