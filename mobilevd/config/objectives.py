"""The settings of every objective that a stage trains with, told apart by `kind`.

A new objective is a class here, listed in `AnyObjective`, and a class that takes it in `training/objectives/`.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from mobilevd.config.base import ConfigModel


class ObjectiveSettings(ConfigModel):
    """The settings that all objectives have."""

    kind: str
    one_step: ClassVar[bool] = False
    """True if a stage that trains with this objective is sampled in one step, unless the stage says otherwise."""

    @property
    def trains(self) -> bool:
        """True if there are training steps at all."""
        return True

    @property
    def has_teacher(self) -> bool:
        """True if the outputs of an earlier one-step stage are learned; `teacher` may name that stage."""
        return False


class NoObjectiveSettings(ObjectiveSettings):
    """No training: the transform is exact."""

    kind: Literal["none"] = "none"

    @property
    def trains(self) -> bool:
        return False


class DenoiseSettings(ObjectiveSettings):
    """The denoising loss of SVD: noise levels from `diffusion.p_mean` and `p_std`."""

    kind: Literal["denoise"] = "denoise"
    conditioning_dropout: float = Field(
        default=0.1,
        ge=0,
        lt=1,
        description="chance that a clip's image is dropped: latents and embedding, for guidance",
    )


class AdversarialSettings(ObjectiveSettings):
    """One-step finetuning against a discriminator on the frozen encoder (SF-V)."""

    one_step: ClassVar[bool] = True

    kind: Literal["adversarial"] = "adversarial"
    heads_learning_rate: float = Field(
        default=5e-5, gt=0, description="learning rate of the heads (10 x the generator's, recalled)"
    )
    heads_depth: int = Field(default=1, ge=1, description="residual convolutions in each head")
    discriminator_p_mean: float = Field(
        default=-1.0, description="mean of ln sigma before the discriminator (-2 and 1 fail)"
    )
    discriminator_p_std: float = Field(default=1.0, gt=0, description="deviation of ln sigma of that noise")
    grid_steps: int = Field(default=4, ge=1, description="points of the generator's Karras grid")
    sigma_points: int = Field(default=3, ge=1, description="first points of that grid to draw from, uniformly")
    discriminator_steps_first: int = Field(default=100, ge=0, description="steps of the discriminator alone (recalled)")
    heads_conditions: list[Literal["image", "noise", "frame"]] = Field(
        default_factory=lambda: ["image"],
        min_length=1,
        description="what a head is conditioned on: the image's embedding, the noise level s', the frame's number",
    )
    updates: Literal["alternating", "shared"] = Field(
        default="alternating",
        description="heads and generator: a pass of their own each, or both from one pass of the generator (cheaper)",
    )
    r1_weight: float = Field(default=1.0, ge=0, description="weight of the R1 penalty on real samples")
    r1_method: Literal["gradient", "finite_difference"] = Field(
        default="gradient",
        description="R1 by the gradient's own gradient, or by the change of the logits under a little noise (APT, LADD)",
    )
    r1_noise: float = Field(default=0.01, gt=0, description="deviation of that noise, relative to the features' own")
    huber_weight: float = Field(default=0.1, ge=0, description="weight of the pseudo-Huber loss")
    huber_c: float = Field(default=0.03, gt=0, description="c of sqrt(|x|^2 + c^2) - c")
    distillation_weight: float = Field(
        default=0.0, ge=0, description="weight of the squared distance to a teacher's output; 0: no teacher (the paper)"
    )
    teacher: str | None = Field(
        default=None, description="name of an earlier one-step stage; null: the nearest adversarially trained one"
    )

    @property
    def has_teacher(self) -> bool:
        return self.distillation_weight > 0

    @model_validator(mode="after")
    def _points_on_the_grid(self) -> AdversarialSettings:
        if self.sigma_points > self.grid_steps:
            raise ValueError(f"sigma_points is {self.sigma_points}, above grid_steps {self.grid_steps}")
        return self

    @model_validator(mode="after")
    def _teacher_has_a_weight(self) -> AdversarialSettings:
        if self.teacher is not None and self.distillation_weight == 0:
            raise ValueError(f"teacher is {self.teacher!r}, but distillation_weight is 0: give it a weight")
        return self


class DistillationSettings(ObjectiveSettings):
    """Learn the outputs of an earlier one-step stage on the same noise (not in the paper; cheap, for compressed models)."""

    one_step: ClassVar[bool] = True

    kind: Literal["distillation"] = "distillation"
    teacher: str | None = Field(
        default=None, description="name of the earlier stage; null: the nearest adversarially trained one"
    )

    @property
    def has_teacher(self) -> bool:
        return True


AnyObjective = Annotated[
    NoObjectiveSettings | DenoiseSettings | AdversarialSettings | DistillationSettings, Field(discriminator="kind")
]
