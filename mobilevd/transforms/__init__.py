"""Changes of the UNet's architecture, one file each: what a stage does before its training and after it."""

from __future__ import annotations

from typing import Any

from mobilevd.config.transforms import (
    CrossAttentionSettings,
    FunnelsSettings,
    ResolutionSettings,
    SpatialMultiscaleSettings,
    TemporalMultiscaleSettings,
    TemporalPruningSettings,
    TransformSettings,
)
from mobilevd.transforms.base import Transform
from mobilevd.transforms.cross_attention import CrossAttention
from mobilevd.transforms.funnels import Funnels
from mobilevd.transforms.resolution import Resolution
from mobilevd.transforms.spatial_multiscale import SpatialMultiscale
from mobilevd.transforms.temporal_multiscale import TemporalMultiscale
from mobilevd.transforms.temporal_pruning import TemporalPruning

TRANSFORMS: dict[type[TransformSettings], type[Transform[Any]]] = {
    ResolutionSettings: Resolution,
    CrossAttentionSettings: CrossAttention,
    TemporalMultiscaleSettings: TemporalMultiscale,
    SpatialMultiscaleSettings: SpatialMultiscale,
    TemporalPruningSettings: TemporalPruning,
    FunnelsSettings: Funnels,
}
"""The transform of each settings class; a new one takes a line here, a file here, and its settings in the config."""


def make_transform(settings: TransformSettings) -> Transform[Any]:
    """Return the transform that the settings are for."""
    return TRANSFORMS[type(settings)](settings)
