"""What condition images say of the scene, for networks that find it in an image and metrics that compare with it."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from tenshot.datamodules.pairs.palette import classes_of
from tenshot.datamodules.pairs.reader import PARTS, Kind
from tenshot.errors import InputError

__all__ = ["ConditionKind", "class_map", "depth_map", "normal_map", "part_of_condition", "require_grey"]


@dataclass(frozen=True)
class ConditionKind:
    """What the condition images of a data set show.

    Args:
        name: mask, sketch, depth, normals or geometry.
        classes: Of masks, what their classes are numbered by: the label map, of colours with a hash of their file. None
            where colours do not tell classes.
        num_classes: How many these are; None where masks may hold any.
        unlabelled: Class of the pixels of masks that have none; None: black ones alone.
        edge_sigma: Of sketches made from images, blur before Canny's edges, in 256ths of the side.
    """

    name: Kind
    classes: str | None = None
    num_classes: int | None = None
    unlabelled: int | None = None
    edge_sigma: float = 2.0

    @property
    def parts(self) -> tuple[str, ...]:
        """What the condition is put together of, in the order of its channels."""
        return PARTS[self.name]


def part_of_condition(condition: Tensor, kind: ConditionKind, part: str) -> Tensor:
    """The channels of one of the parts of condition images: (N, C, S, S)  ->  (N, C', S, S)."""
    start = 3 * kind.parts.index(part)  # only of geometry there are two, of three channels each
    return condition[:, start : start + 3]


def class_map(masks: Tensor, unlabelled: int | None = None) -> Tensor:
    """The class of each pixel of masks: uint8 (N, 3, S, S)  ->  int64 (N, S, S), -1 for none.

    unlabelled: class that means none
    """
    classes = classes_of(masks)
    return classes if unlabelled is None else torch.where(classes == unlabelled, -1, classes)


def depth_map(depth: Tensor) -> Tensor:
    """What depth maps say: uint8 (N, 3, S, S)  ->  float32 (N, S, S), the file's 0 … 255 as 0 … 1; 0 is no depth."""
    return depth[:, 0].float() / 255


def require_grey(depth: Tensor) -> None:
    """Make sure that depth can be read from depth maps: uint8 (N, 3, S, S).

    Raises:
        InputError: They are in colours.
    """
    if (depth != depth[:, :1]).any():
        raise InputError(
            "depth maps in colours, from which no depth can be read: save depth as 8-bit grey images, or choose other "
            "metrics"
        )


def normal_map(normals: Tensor) -> tuple[Tensor, Tensor]:
    """What normals say: uint8 (N, 3, S, S)  ->  unit vectors, float32 (N, 3, S, S), and where there are any.

    The second is bool (N, S, S): pixels of (0, 0, 0) have no normal.
    """
    vectors = normals.float() / 127.5 - 1
    return F.normalize(vectors, dim=1), (normals > 0).any(1)
