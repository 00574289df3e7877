"""The Gaussian diffusion process and its samplers: tensor maths over any callable ``model(x, t)``."""

from tenshot.diffusion.bound import VariationalBound, bits_per_dim, cascade_bits_per_dim
from tenshot.diffusion.classifier_free import (
    ClassifierFree,
    classifier_free_guidance,
    normalized_classifier_free_guidance,
)
from tenshot.diffusion.config import DiffusionConfig
from tenshot.diffusion.corruption import Augmentation, Blur, Corruption, LowResNoise, downsample, upsample
from tenshot.diffusion.denoiser import Condition, Denoised, Denoiser
from tenshot.diffusion.dpm_solver import sample_dpm_solver
from tenshot.diffusion.gaussian import GaussianDiffusion
from tenshot.diffusion.guidance import Guidance, Guided, classifier_guidance
from tenshot.diffusion.samplers import ddim_encode, sample_ddim, sample_ddpm
from tenshot.diffusion.schedules import cosine_betas, linear_betas, space_timesteps
from tenshot.diffusion.timesteps import LossAwareTimesteps, TimestepSampler, UniformTimesteps
from tenshot.diffusion.weighting import LogNormalNoise, LogNormalTimesteps, LossWeighting
from tenshot.losses.variational import Moments, ReverseStep

__all__ = [
    "Augmentation",
    "Blur",
    "ClassifierFree",
    "Condition",
    "Corruption",
    "Denoised",
    "Denoiser",
    "DiffusionConfig",
    "GaussianDiffusion",
    "Guidance",
    "Guided",
    "LogNormalNoise",
    "LogNormalTimesteps",
    "LossAwareTimesteps",
    "LossWeighting",
    "LowResNoise",
    "Moments",
    "ReverseStep",
    "TimestepSampler",
    "UniformTimesteps",
    "VariationalBound",
    "bits_per_dim",
    "cascade_bits_per_dim",
    "classifier_free_guidance",
    "classifier_guidance",
    "cosine_betas",
    "ddim_encode",
    "downsample",
    "linear_betas",
    "normalized_classifier_free_guidance",
    "sample_ddim",
    "sample_ddpm",
    "sample_dpm_solver",
    "space_timesteps",
    "upsample",
]
