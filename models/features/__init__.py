"""Frozen networks that turn images into feature rows, for metrics."""

from tenshot.models.features.clip import CLIPFeatures
from tenshot.models.features.dinov2 import DINOv2Features
from tenshot.models.features.efficientnet_lite0 import EfficientNetLite0Features
from tenshot.models.features.factory import FeatureName, check_feature_name, feature_network
from tenshot.models.features.inception import InceptionFeatures
from tenshot.models.features.network import FeatureNetwork, weights_hash
from tenshot.models.features.random import RandomFeatures
from tenshot.models.features.vgg16 import VGG16Features

__all__ = [
    "CLIPFeatures",
    "DINOv2Features",
    "EfficientNetLite0Features",
    "FeatureName",
    "FeatureNetwork",
    "InceptionFeatures",
    "RandomFeatures",
    "VGG16Features",
    "check_feature_name",
    "feature_network",
    "weights_hash",
]
