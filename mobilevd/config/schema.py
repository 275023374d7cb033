"""All settings of a run, with a default wherever one is sensible."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from mobilevd.config.base import ConfigModel, PathValue
from mobilevd.config.data import DataSettings
from mobilevd.config.objectives import AdversarialSettings, AnyObjective, NoObjectiveSettings
from mobilevd.config.shape import check_same_shape
from mobilevd.config.training import HardwareSettings, TrackingSettings, TrainingSettings
from mobilevd.config.transforms import AnyTransform


class BaseSettings(ConfigModel):
    """The model and codec that the run starts from."""

    model: PathValue = Field(description="folder of a UNet: ours, or a diffusers SVD UNet")
    codec: PathValue = Field(description="folder of a codec: ours, or a diffusers SVD folder (VAE and CLIP)")


class DiffusionSettings(ConfigModel):
    """SVD's noise levels, sampling and micro-conditioning."""

    sigma_min: float = Field(default=0.002, gt=0, description="smallest sigma of the Karras grid")
    sigma_max: float = Field(default=700.0, gt=0, description="largest sigma, where sampling starts")
    rho: float = Field(default=7.0, gt=0, description="curvature of the Karras grid")
    num_steps: int = Field(default=25, ge=1, description="Euler steps of a multi-step stage")
    guidance_min: float = Field(default=1.0, ge=0, description="guidance scale of the first frame")
    guidance_max: float = Field(default=3.0, ge=0, description="guidance scale of the last frame")
    noise_aug_strength: float = Field(default=0.02, ge=0, description="noise added to the conditioning image")
    p_mean: float = Field(default=0.7, description="mean of ln sigma in denoising training")
    p_std: float = Field(default=1.6, gt=0, description="deviation of ln sigma in denoising training")

    @model_validator(mode="after")
    def _ordered(self) -> DiffusionSettings:
        for low, high in (("sigma_min", "sigma_max"), ("guidance_min", "guidance_max")):
            if getattr(self, low) > getattr(self, high):
                raise ValueError(f"{low} {getattr(self, low)} is above {high} {getattr(self, high)}: swap them")
        return self


class StageSettings(ConfigModel):
    """One stage: transforms of the architecture, then training with an objective."""

    # Starts with a letter, so that `stages.2` and `stages.pruning` can never mean different things.
    name: str = Field(
        pattern=r"^[a-z][a-z0-9_-]*$", description="folder name: a letter, then letters, digits, `-` or `_`"
    )
    label: str = Field(default="", description="the stage's row in the table; empty takes the name")
    transforms: list[AnyTransform] = Field(default_factory=list, description="changes of the architecture, in order")
    objective: AnyObjective = Field(default_factory=NoObjectiveSettings, description="objective of the training")
    training: TrainingSettings = Field(default_factory=TrainingSettings, description="changes to the top's values")
    nfe: Literal["multi-step", "one-step"] = Field(
        default="multi-step",
        description="kind of sampling; one step for adversarial and distilled models unless given",
    )

    @model_validator(mode="after")
    def _sampled_as_it_was_trained(self) -> StageSettings:
        if "nfe" not in self.model_fields_set and self.objective.one_step:
            self.nfe = "one-step"
        return self

    @model_validator(mode="after")
    def _label_from_name(self) -> StageSettings:
        self.label = self.label or self.name
        return self


class EvaluationSettings(ConfigModel):
    """The evaluation that every stage gets."""

    clips: int = Field(default=96, ge=2, description="clips generated; all held-out clips are compared with")
    height: int = Field(default=32, ge=8, description="height in pixels at which clips are compared")
    width: int = Field(default=64, ge=8, description="width in pixels, in the data's shape; follows from the height")
    features: str = Field(default="motion", description="extractor: motion, motion:FOLDER, i3d:FILE or PROTOCOL:FILE")
    batch_size: int = Field(default=16, ge=1, description="clips generated at a time")
    seed: int = Field(default=0, ge=0, description="seed of the noise; the same for every stage")
    seeds: int = Field(
        default=1, ge=1, description="sets of clips with noise of their own; above 1 figures are means over them"
    )
    extrapolate: bool = Field(
        default=False, description="also the Frechet distance extrapolated to infinitely many clips (FID_inf)"
    )
    mixed_precision: Literal["no", "bf16"] = Field(default="no", description="precision of the model that generates")
    sheet_clips: int = Field(default=4, ge=1, description="clips in a stage's samples and contact sheet")


class ExportSettings(ConfigModel):
    """The stages that are exported, and the program that is made of each."""

    stages: Literal["all", "last", "none"] = Field(default="all", description="stages to export")
    target: str = Field(
        default="executorch-xnnpack", description="runtime and backend of the program: TARGET or TARGET:PRECISION"
    )
    precision: str = Field(default="fp32", description="precision of the program")
    also: list[str] = Field(
        default_factory=list, description="further programs of each stage: TARGET or TARGET:PRECISION"
    )


class BenchSettings(ConfigModel):
    """The latency measurement of exported programs."""

    device: str = Field(default="host", description="device to measure on")
    threads: int = Field(default=2, ge=1, description="threads of the program")
    warmup: int = Field(default=3, ge=0, description="iterations before the timed ones")
    iterations: int = Field(default=20, ge=1, description="timed iterations")


class RunConfig(ConfigModel):
    """The configuration of a whole run."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="name of the run")
    seed: int = Field(default=0, ge=0, description="seed of everything random")
    output: PathValue = Field(default=Path("runs/{name}"), description="run folder; `{name}` is the name")
    base: BaseSettings
    data: DataSettings = Field(default_factory=DataSettings)
    diffusion: DiffusionSettings = Field(default_factory=DiffusionSettings)
    training: TrainingSettings = Field(default_factory=TrainingSettings)
    stages: list[StageSettings] = Field(min_length=1)
    evaluation: EvaluationSettings = Field(default_factory=EvaluationSettings)
    export: ExportSettings = Field(default_factory=ExportSettings)
    bench: BenchSettings = Field(default_factory=BenchSettings)
    hardware: HardwareSettings = Field(default_factory=HardwareSettings)
    tracking: TrackingSettings = Field(default_factory=TrackingSettings)

    @model_validator(mode="after")
    def _stages_inherit(self) -> RunConfig:
        names = [stage.name for stage in self.stages]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"two stages are named {', '.join(twice)}: give each a name of its own")
        for index, stage in enumerate(self.stages):
            if stage.objective.has_teacher:
                self._teacher(index)
        for stage in self.stages:
            own = {key: getattr(stage.training, key) for key in stage.training.model_fields_set}
            stage.training = self.training.model_copy(update=own)
            if stage.objective.trains and stage.training.result == "best" and not stage.training.validate_every:
                raise ValueError(
                    f"stages.{stage.name}.training: result is best, by validation, and validate_every is 0: give the steps "
                    "between validations"
                )
        self.output = Path(str(self.output).replace("{name}", self.name))
        return self

    @model_validator(mode="after")
    def _evaluated_as_cropped(self) -> RunConfig:
        evaluation, given = self.evaluation, self.evaluation.model_fields_set
        if "width" not in given:
            evaluation.width = max(1, round(evaluation.height * self.data.aspect))
        elif "height" not in given:
            evaluation.height = max(1, round(evaluation.width / self.data.aspect))
        check_same_shape(evaluation.height, evaluation.width, self.data.height, self.data.width)
        return self

    def teacher_of(self, name: str) -> str:
        """Name of the stage whose outputs the stage `name` learns."""
        return self._teacher(next(i for i, stage in enumerate(self.stages) if stage.name == name))

    def _teacher(self, index: int) -> str:
        """The one-step stage before `index` that the stage names, or else the nearest adversarially trained one."""
        stage, earlier = self.stages[index], self.stages[:index]
        wanted = getattr(stage.objective, "teacher", None)
        for candidate in reversed(earlier):
            if wanted is None and isinstance(candidate.objective, AdversarialSettings):
                return candidate.name
            if candidate.name == wanted and candidate.nfe == "one-step":
                return candidate.name
        known = ", ".join(s.name for s in earlier if s.nfe == "one-step") or "none"
        asked = "an adversarially trained stage" if wanted is None else f"a one-step stage named {wanted!r}"
        raise ValueError(
            f"stages.{stage.name}.objective: distillation needs {asked} before it (one-step stages there: {known})"
        )
