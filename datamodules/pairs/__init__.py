"""Images with what they are to be made from: which files belong together, and how they become tensors."""

from tenshot.datamodules.pairs.files import Pairs
from tenshot.datamodules.pairs.masks import LabelMap, Masks, read_colours
from tenshot.datamodules.pairs.matching import Place, find_pairs
from tenshot.datamodules.pairs.palette import class_colours, classes_of, colours_of, ids_of
from tenshot.datamodules.pairs.reader import CHANNELS, KINDS, PARTS, ConditionReader, Kind, turned_normals
from tenshot.datamodules.pairs.sketches import distance_map, require_edge_detector
from tenshot.datamodules.pairs.snapping import snapped
from tenshot.datamodules.pairs.source import PairsInMemory, PairSource, check_some, first_palette

__all__ = [
    "CHANNELS",
    "KINDS",
    "PARTS",
    "ConditionReader",
    "Kind",
    "LabelMap",
    "Masks",
    "PairSource",
    "Pairs",
    "PairsInMemory",
    "Place",
    "check_some",
    "class_colours",
    "classes_of",
    "colours_of",
    "distance_map",
    "find_pairs",
    "first_palette",
    "ids_of",
    "read_colours",
    "require_edge_detector",
    "snapped",
    "turned_normals",
]
