"""The settings of training: the optimizer, the batch, precision and memory, parallelism, and what is kept."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from mobilevd.config.base import ConfigModel


class TrainingSettings(ConfigModel):
    """Training settings of a stage; `training` at the top gives the values that a stage's own `training` overrides."""

    steps: int = Field(default=1000, ge=0, description="optimizer steps")
    batch_size: int = Field(default=4, ge=1, description="clips per optimizer step, over all processes together")
    micro_batch_size: int | None = Field(
        default=None,
        ge=1,
        description="clips per forward pass of one process, the rest by accumulation; null: as many as fit into memory",
    )
    optimizer: Literal["adamw", "adamw-8bit", "sm3"] = Field(
        default="adamw", description="AdamW, AdamW with 8-bit states, or SM3 (SF-V's)"
    )
    learning_rate: float = Field(default=1e-4, gt=0, description="learning rate after the warm-up")
    schedule: Literal["constant", "cosine"] = Field(
        default="constant",
        description="learning rate after the warm-up: constant, or a cosine down to a hundredth",
    )
    betas: Annotated[tuple[float, float], Field(strict=False)] = Field(
        default=(0.9, 0.999), description="AdamW's betas; SM3's momentum and beta"
    )
    weight_decay: float = Field(default=1e-3, ge=0, description="decoupled weight decay (AdamW's)")
    ema_decay: float = Field(default=0.999, ge=0, lt=1, description="decay of averaged weights; 0 keeps the last")
    mixed_precision: Literal["no", "bf16", "fp16"] = Field(default="no", description="precision of the passes")
    frozen_precision: Literal["fp32", "bf16"] = Field(
        default="fp32", description="weights of the frozen encoder and teacher, and of the codec's conditioning"
    )
    tf32: bool = Field(default=True, description="float32 matrix products in TF32, where the GPU has it")
    compile: bool = Field(default=False, description="torch.compile of every block: faster after some minutes")
    gradient_checkpointing: bool = Field(default=False, description="less memory, more time")
    parallel: Literal["ddp", "fsdp"] = Field(
        default="ddp", description="whole copies of the model, or its weights and states sharded over the GPUs (FSDP2)"
    )
    train: Literal["all", "temporal", "lora"] = Field(
        default="all", description="weights that are trained: all, the temporal layers', or low-rank additions to all"
    )
    lora_rank: int = Field(default=16, ge=1, description="rank of those additions")
    max_grad_norm: float = Field(default=1.0, gt=0, description="larger gradients are scaled to this norm")
    warmup_steps: int = Field(default=0, ge=0, description="steps over which the learning rate rises from 0")
    checkpoint_every: int = Field(default=200, ge=1, description="steps between checkpoints")
    keep_checkpoints: int = Field(default=2, ge=1, description="checkpoints kept, beside the best by validation")
    log_every: int = Field(default=10, ge=1, description="steps between log lines")
    validate_every: int = Field(default=0, ge=0, description="steps between validations; 0: none")
    validation_clips: int = Field(default=16, ge=2, description="held-out clips that a validation generates")
    result: Literal["last", "best"] = Field(
        default="last", description="weights that the stage ends with: the last, or the best by validation"
    )
    num_threads: int | None = Field(default=None, ge=1, description="torch threads; null: torch's choice")
    latent_clips: int | None = Field(default=512, ge=1, description="clips trained on, at most; null: all")

    @model_validator(mode="before")
    @classmethod
    def _no_is_a_word(cls, data: Any) -> Any:
        # YAML 1.1 reads a bare `no` as false; here it can only mean the word.
        if isinstance(data, dict) and data.get("mixed_precision") is False:
            return {**data, "mixed_precision": "no"}
        return data

    @model_validator(mode="after")
    def _betas_below_one(self) -> TrainingSettings:
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas is {list(self.betas)}: both must be at least 0 and below 1")
        return self


_UNSEEN_BY_WEIGHTS = frozenset(
    "micro_batch_size tf32 compile gradient_checkpointing parallel checkpoint_every keep_checkpoints log_every "
    "validate_every validation_clips num_threads".split()
)
"""Settings of training that may change between two starts: they decide how, and not what, is trained.

Some of them change the order in which numbers are added up, so that the bits of the weights differ.
"""


def seen_by_weights(settings: TrainingSettings) -> dict[str, Any]:
    """The settings that decide what is trained, JSON-like: those that a checkpoint and a finished stage belong to."""
    unseen: set[str] = set(_UNSEEN_BY_WEIGHTS)
    if settings.result == "best":  # chosen by the validations
        unseen -= {"validate_every", "validation_clips"}
    return settings.model_dump(mode="json", exclude=unseen)


class HardwareSettings(ConfigModel):
    """The machine that `--dry-run` plans memory and hours for; the launcher's own GPUs if nothing is given."""

    gpu: str | None = Field(
        default=None, description="name of a known GPU (a100-80gb, h100, rtx4090, ...); null: this one"
    )
    gpus: int | None = Field(default=None, ge=1, description="number of GPUs; null: the processes of the launcher")
    memory_gb: float | None = Field(
        default=None, gt=0, description="memory of each in GiB; null: that of the known GPU"
    )
    tflops: float | None = Field(
        default=None, gt=0, description="peak TFLOP/s in the run's precision; null: that of the known GPU"
    )
    utilization: float = Field(
        default=0.35, gt=0, le=1, description="share of the peak that is reached (MFU), for the hours"
    )


class TrackingSettings(ConfigModel):
    """The trackers that figures, clips and settings are sent to while a run trains."""

    trackers: list[Literal["tensorboard", "wandb", "trackio", "mlflow"]] = Field(
        default_factory=lambda: ["tensorboard"], description="names of trackers, through accelerate; empty: none"
    )
    project: str = Field(default="mobilevd", min_length=1, description="name of the project in them")
