"""Frozen networks that turn images into feature rows, for metrics, and into feature maps, for losses."""

from tenshot.models.features.clip import CLIPFeatures
from tenshot.models.features.dinov2 import DINOv2Features
from tenshot.models.features.efficientnet_lite0 import EfficientNetLite0Features
from tenshot.models.features.factory import FeatureName, check_feature_name, feature_network
from tenshot.models.features.inception import InceptionFeatures
from tenshot.models.features.maps import EfficientNetLite0Maps, FeatureMaps, MapsName, VGG19Maps, feature_maps
from tenshot.models.features.network import FeatureNetwork, weights_hash
from tenshot.models.features.random import RandomFeatures
from tenshot.models.features.vgg16 import VGG16Features

__all__ = [
    "CLIPFeatures",
    "DINOv2Features",
    "EfficientNetLite0Features",
    "EfficientNetLite0Maps",
    "FeatureMaps",
    "FeatureName",
    "FeatureNetwork",
    "InceptionFeatures",
    "MapsName",
    "RandomFeatures",
    "VGG16Features",
    "VGG19Maps",
    "check_feature_name",
    "feature_maps",
    "feature_network",
    "weights_hash",
]
