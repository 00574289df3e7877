"""The size of images that follows from the model, where the data are not told one."""

from jsonargparse import Namespace

from tenshot.checkpoints.initial import Part, initial_from
from tenshot.checkpoints.initial_gan import initial_gan_from
from tenshot.lightning_modules import FolderGenerator

__all__ = ["image_size_of"]


def image_size_of(model: Namespace) -> int | None:
    """Side of the images of the network that a method is configured with, or of its folder; none where neither tells.

    Raises:
        InputError: The file or folder cannot be read.
    """
    init_args = model.init_args
    if model.class_path.rsplit(".", 1)[-1] == FolderGenerator.__name__:
        return FolderGenerator(init_args.root).size
    if "stylegan2" in init_args:
        if init_args.stylegan2 is not None:
            return int(init_args.stylegan2.image_size)
        if init_args.get("init_from") is None:
            return None
        return initial_gan_from(init_args.init_from, "raw", None).config.image_size
    part: Part = "classifier" if "classifier" in init_args else "unet"
    if init_args.get(part) is not None:
        return int(init_args[part].image_size)
    if init_args.get("init_from") is not None:
        read = initial_from(init_args.init_from, init_args.init_weights, {}, part)
        return read.unet.image_size
    return None
