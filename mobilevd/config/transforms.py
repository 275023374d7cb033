"""What a stage does to the architecture, and what it trains with: tagged unions on `kind`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from mobilevd.config.base import ConfigModel


class ResolutionTransform(ConfigModel):
    """Go on at another size; the weights stay, only the data changes."""

    kind: Literal["resolution"]
    height: int = Field(ge=8, description="height in pixels from this stage on")
    width: int = Field(ge=8, description="width in pixels from this stage on")


class CrossAttentionTransform(ConfigModel):
    """Replace single-token cross-attention by its exact projection `W_O W_V c + b_O`."""

    kind: Literal["cross_attention"]


class TemporalMultiscaleTransform(ConfigModel):
    """Run the inner blocks on fewer frames."""

    kind: Literal["temporal_multiscale"]
    factor: int = Field(default=2, ge=2, description="how many times fewer frames inside")
    operator: Literal["average", "stride"] = Field(
        default="average", description="how frames are reduced; not published, so a choice"
    )


class SpatialMultiscaleTransform(ConfigModel):
    """Run the inner blocks on a smaller latent."""

    kind: Literal["spatial_multiscale"]
    factor: int = Field(default=2, ge=2, description="how many times smaller inside, in height and in width")
    operator: Literal["average", "stride"] = Field(default="average", description="how positions are reduced")


class TemporalPruningTransform(ConfigModel):
    """Keep the most important temporal blocks and delete the rest."""

    kind: Literal["temporal_pruning"]
    keep: float = Field(
        default=0.3, gt=0, description="temporal blocks to keep: a number (11), or a fraction below 1 (0.3)"
    )
    method: Literal["learned"] = Field(default="learned", description="importance is learned in training")
    learning_rate: float = Field(default=1e-2, gt=0, description="learning rate of the importance values")

    @model_validator(mode="after")
    def _whole_blocks(self) -> TemporalPruningTransform:
        if self.keep >= 1 and self.keep != int(self.keep):
            raise ValueError(f"keep is {self.keep:g}: give a whole number of blocks, or a fraction below 1")
        return self


class FunnelsTransform(ConfigModel):
    """Narrow the inner width between two affine layers; merged into them after training."""

    kind: Literal["funnels"]
    attention: float | None = Field(
        default=0.5, gt=0, le=1, description="fun-factor of query-key and value-output pairs, or null"
    )
    convolution: float | None = Field(
        default=None, gt=0, le=1, description="fun-factor of conv1-conv2 of residual blocks, or null"
    )
    init: Literal["csi", "he"] = Field(default="csi", description="coupled singular initialization, or He's")

    @model_validator(mode="after")
    def _something_to_do(self) -> FunnelsTransform:
        if self.attention is None and self.convolution is None:
            raise ValueError("attention and convolution are both null, so nothing is narrowed: give one")
        return self


Transform = Annotated[
    ResolutionTransform
    | CrossAttentionTransform
    | TemporalMultiscaleTransform
    | SpatialMultiscaleTransform
    | TemporalPruningTransform
    | FunnelsTransform,
    Field(discriminator="kind"),
]


class NoObjective(ConfigModel):
    """No training: the transform is exact."""

    kind: Literal["none"] = "none"


class DenoiseObjective(ConfigModel):
    """The denoising loss of SVD: noise levels from `diffusion.p_mean` and `p_std`."""

    kind: Literal["denoise"]
    conditioning_dropout: float = Field(
        default=0.1, ge=0, lt=1, description="chance that a clip's image condition is dropped, for guidance"
    )


class AdversarialObjective(ConfigModel):
    """One-step finetuning against a discriminator on the frozen encoder (SF-V)."""

    kind: Literal["adversarial"]
    heads_learning_rate: float = Field(
        default=5e-5, gt=0, description="learning rate of the heads (10 x the generator's, recalled)"
    )
    heads_depth: int = Field(default=1, ge=1, description="residual convolutions in each head")
    discriminator_p_mean: float = Field(
        default=-1.0, description="mean of ln sigma before the discriminator (-2 and 1 fail)"
    )
    discriminator_p_std: float = Field(default=1.0, gt=0, description="deviation of ln sigma of that noise")
    grid_steps: int = Field(default=4, ge=1, description="points of the generator's Karras grid")
    sigma_points: int = Field(default=3, ge=1, description="first points of it drawn from, uniformly")
    discriminator_steps_first: int = Field(default=100, ge=0, description="steps of the discriminator alone (recalled)")
    r1_weight: float = Field(default=1.0, ge=0, description="weight of the R1 penalty on real samples")
    huber_weight: float = Field(default=0.1, ge=0, description="weight of the pseudo-Huber loss")
    huber_c: float = Field(default=0.03, gt=0, description="c of sqrt(|x|^2 + c^2) - c")
    distillation_weight: float = Field(
        default=0.0, ge=0, description="weight of the squared distance to a teacher's output; 0: no teacher (the paper)"
    )
    teacher: str | None = Field(
        default=None, description="name of an earlier one-step stage; null: the nearest adversarially trained one"
    )

    @model_validator(mode="after")
    def _points_on_the_grid(self) -> AdversarialObjective:
        if self.sigma_points > self.grid_steps:
            raise ValueError(f"sigma_points is {self.sigma_points}, above grid_steps {self.grid_steps}")
        return self

    @model_validator(mode="after")
    def _teacher_has_a_weight(self) -> AdversarialObjective:
        if self.teacher is not None and self.distillation_weight == 0:
            raise ValueError(f"teacher is {self.teacher!r}, but distillation_weight is 0: give it a weight")
        return self


class DistillationObjective(ConfigModel):
    """Learn the outputs of an earlier one-step stage on the same noise (not in the paper; cheap, for compressed models)."""

    kind: Literal["distillation"]
    teacher: str | None = Field(
        default=None, description="name of the earlier stage; null: the nearest adversarially trained one"
    )


Objective = Annotated[
    NoObjective | DenoiseObjective | AdversarialObjective | DistillationObjective, Field(discriminator="kind")
]
