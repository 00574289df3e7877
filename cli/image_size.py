"""The size of images that follows from the model, where the data are not told one."""

from jsonargparse import Namespace

from tenshot.checkpoints import KINDS, read
from tenshot.lightning_modules import Cascade, FolderGenerator

__all__ = ["image_size_of"]


def image_size_of(model: Namespace) -> int | None:
    """Side of the images of the network that a method is configured with, or of its folder; none where neither tells.

    Raises:
        InputError: The file or folder cannot be read.
    """
    init_args = model.init_args
    if model.class_path.rsplit(".", 1)[-1] == FolderGenerator.__name__:
        return FolderGenerator(init_args.root).size
    if model.class_path.rsplit(".", 1)[-1] == Cascade.__name__:
        return int(read(init_args.stages[-1].checkpoint).config.image_size) if init_args.stages else None
    kind = next((kind for name, kind in KINDS.items() if name in init_args), None)
    if kind is None:
        return None
    config = init_args[kind.name]
    if config is None and init_args.get("init_from") is not None:
        config = read(init_args.init_from, kind, init_args.init_weights).config
    return None if config is None else int(getattr(config, kind.image_size))
