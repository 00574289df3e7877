"""Where images come from: few shots, large folders, pairs, drawn faces, and the seeds of the samples to be made."""

from tenshot.datamodules.base import ImageDataModule
from tenshot.datamodules.few_shot import FewShot
from tenshot.datamodules.image_folder import ImageFolder
from tenshot.datamodules.paired import Paired
from tenshot.datamodules.sample_folder import SampleFolder
from tenshot.datamodules.samples import Samples
from tenshot.datamodules.synthetic_faces import SyntheticFaces

__all__ = ["FewShot", "ImageDataModule", "ImageFolder", "Paired", "SampleFolder", "Samples", "SyntheticFaces"]
