"""The sizes of images and conditions that follow from the model, where the data are not told any."""

from jsonargparse import Namespace

from tenshot.checkpoints import KINDS, PITI_UNET, read
from tenshot.checkpoints.registry import kind_in
from tenshot.lightning_modules import Cascade, FolderGenerator
from tenshot.models import ConditionConfig

__all__ = ["condition_size_of", "image_size_of"]


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
        found = read(init_args.init_from, None if kind is PITI_UNET else kind, init_args.init_weights)
        config, kind = found.config, found.kind
    return None if config is None else int(getattr(config, kind.image_size))


def condition_size_of(model: Namespace) -> int | None:
    """Side of the condition images that a method takes; none where it takes none, or where nothing tells.

    Raises:
        InputError: A file cannot be read.
    """
    init_args = model.init_args
    if model.class_path.rsplit(".", 1)[-1] == Cascade.__name__:
        paths = [init_args.base, *(stage.checkpoint for stage in init_args.stages)]
        found = [read(path) for path in paths if kind_in(path) is PITI_UNET]
        return max((each.config.condition_size for each in found), default=None)
    if PITI_UNET.name not in init_args:
        return None
    config = init_args[PITI_UNET.name]
    if config is None:
        files = [path for path in (init_args.get("encoder_from"), init_args.get("init_from")) if path is not None]
        config = read(files[0], None, init_args.init_weights).config if files else None
    if isinstance(config, ConditionConfig):
        return config.size
    return int(getattr(config, "condition_size", ConditionConfig.size))
