"""The settings of every transform of the architecture, told apart by `kind`.

A new transform is a class here, listed in `AnyTransform`, and a class that takes it in `mobilevd/transforms/`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from mobilevd.config.base import ConfigModel

ScaleOperator = Literal["average", "stride"]


class TransformSettings(ConfigModel):
    """The settings that all transforms have."""

    kind: str

    def size_after(self, height: int, width: int) -> tuple[int, int]:
        """Size of the clips in pixels from this stage on, if it was height x width before."""
        return height, width

    @property
    def size_factor(self) -> int:
        """The factor by which height and width must additionally be divisible afterwards."""
        return 1

    @property
    def frames_factor(self) -> int:
        """The factor by which the number of frames must additionally be divisible afterwards."""
        return 1


class ResolutionSettings(TransformSettings):
    """Continue at another size; the weights stay, only the data changes."""

    kind: Literal["resolution"] = "resolution"
    height: int = Field(ge=8, description="height in pixels from this stage on")
    width: int = Field(ge=8, description="width in pixels from this stage on")

    def size_after(self, height: int, width: int) -> tuple[int, int]:
        return self.height, self.width


class CrossAttentionSettings(TransformSettings):
    """Replace single-token cross-attention by its exact projection `W_O W_V c + b_O`."""

    kind: Literal["cross_attention"] = "cross_attention"


class TemporalMultiscaleSettings(TransformSettings):
    """Run the inner blocks on fewer frames."""

    kind: Literal["temporal_multiscale"] = "temporal_multiscale"
    factor: int = Field(default=2, ge=2, description="factor by which frames are fewer inside")
    operator: ScaleOperator = Field(default="average", description="reduction of frames; not published, so a choice")

    @property
    def frames_factor(self) -> int:
        return self.factor


class SpatialMultiscaleSettings(TransformSettings):
    """Run the inner blocks on a smaller latent."""

    kind: Literal["spatial_multiscale"] = "spatial_multiscale"
    factor: int = Field(default=2, ge=2, description="factor by which height and width are smaller inside")
    operator: ScaleOperator = Field(default="average", description="reduction of positions")

    @property
    def size_factor(self) -> int:
        return self.factor


class TemporalPruningSettings(TransformSettings):
    """Keep the most important temporal blocks and delete the rest."""

    kind: Literal["temporal_pruning"] = "temporal_pruning"
    keep: float = Field(
        default=0.3, gt=0, description="temporal blocks to keep: a number (11), or a fraction below 1 (0.3)"
    )
    method: Literal["learned"] = Field(default="learned", description="importance is learned in training")
    learning_rate: float = Field(default=1e-2, gt=0, description="learning rate of the importance values")

    @model_validator(mode="after")
    def _whole_blocks(self) -> TemporalPruningSettings:
        if self.keep >= 1 and self.keep != int(self.keep):
            raise ValueError(f"keep is {self.keep:g}: give a whole number of blocks, or a fraction below 1")
        return self


class FunnelsSettings(TransformSettings):
    """Narrow the inner width between two affine layers; the funnels are merged into them after training."""

    kind: Literal["funnels"] = "funnels"
    attention: float | None = Field(
        default=0.5, gt=0, le=1, description="fun-factor of query-key and value-output pairs, or null"
    )
    convolution: float | None = Field(
        default=None, gt=0, le=1, description="fun-factor of conv1-conv2 of residual blocks, or null"
    )
    init: Literal["csi", "he"] = Field(default="csi", description="coupled singular initialization, or He's")

    @model_validator(mode="after")
    def _something_to_do(self) -> FunnelsSettings:
        if self.attention is None and self.convolution is None:
            raise ValueError("attention and convolution are both null, so nothing is narrowed: give one")
        return self


AnyTransform = Annotated[
    ResolutionSettings
    | CrossAttentionSettings
    | TemporalMultiscaleSettings
    | SpatialMultiscaleSettings
    | TemporalPruningSettings
    | FunnelsSettings,
    Field(discriminator="kind"),
]
