"""Images with what they are to be made from: which files belong together, and how they become tensors."""

from tenshot.datamodules.pairs.files import Pairs
from tenshot.datamodules.pairs.masks import LabelMap, Masks, read_colours
from tenshot.datamodules.pairs.matching import Place, find_pairs
from tenshot.datamodules.pairs.palette import class_colours, classes_of, colours_of, ids_of
from tenshot.datamodules.pairs.reader import CHANNELS, KINDS, PARTS, ConditionReader, Kind, turned_normals
from tenshot.datamodules.pairs.sketches import canny_edges, distance_map, has_edge_detector, require_edge_detector
from tenshot.datamodules.pairs.snapping import snapped
from tenshot.datamodules.pairs.source import PairsInMemory, PairSource, check_some, first_palette
from tenshot.datamodules.pairs.targets import (
    ConditionKind,
    class_map,
    depth_map,
    normal_map,
    part_of_condition,
    require_grey,
)

__all__ = [
    "CHANNELS",
    "KINDS",
    "PARTS",
    "ConditionKind",
    "ConditionReader",
    "Kind",
    "LabelMap",
    "Masks",
    "PairSource",
    "Pairs",
    "PairsInMemory",
    "Place",
    "canny_edges",
    "check_some",
    "class_colours",
    "class_map",
    "classes_of",
    "colours_of",
    "depth_map",
    "distance_map",
    "find_pairs",
    "first_palette",
    "has_edge_detector",
    "ids_of",
    "normal_map",
    "part_of_condition",
    "read_colours",
    "require_edge_detector",
    "require_grey",
    "snapped",
    "turned_normals",
]
