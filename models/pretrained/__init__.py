"""Public checkpoints, read into our networks."""

from tenshot.models.pretrained.adm import AdmCheckpoint, adm_in, load_adm, network_in, read_adm
from tenshot.models.pretrained.adm_classifier import is_classifier, load_adm_classifier
from tenshot.models.pretrained.filling import broken_named, fill, refuse_misfit
from tenshot.models.pretrained.glide import (
    GlideFile,
    glide_in,
    load_condition_encoder,
    load_glide,
    load_piti,
    read_glide,
    role_of,
)
from tenshot.models.pretrained.reading import (
    is_plain_pickle,
    is_whole,
    read_checkpoint,
    read_parts,
    read_state_dict,
    safetensors_metadata,
    sha256,
)
from tenshot.models.pretrained.stylegan2 import StyleGAN2File, holds_stylegan2, load_stylegan2, read_stylegan2
from tenshot.models.pretrained.stylegan2_writing import channel_multiplier, save_rosinality
from tenshot.models.pretrained.weight_files import Trunk, WeightFile, given_file, have_quickly, weight_file

__all__ = [
    "AdmCheckpoint",
    "GlideFile",
    "StyleGAN2File",
    "Trunk",
    "WeightFile",
    "adm_in",
    "broken_named",
    "channel_multiplier",
    "fill",
    "given_file",
    "glide_in",
    "have_quickly",
    "holds_stylegan2",
    "is_classifier",
    "is_plain_pickle",
    "is_whole",
    "load_adm",
    "load_adm_classifier",
    "load_condition_encoder",
    "load_glide",
    "load_piti",
    "load_stylegan2",
    "network_in",
    "read_adm",
    "read_checkpoint",
    "read_glide",
    "read_parts",
    "read_state_dict",
    "read_stylegan2",
    "refuse_misfit",
    "role_of",
    "safetensors_metadata",
    "save_rosinality",
    "sha256",
    "weight_file",
]
