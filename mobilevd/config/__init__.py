"""The configuration of a run: what can be said, how it is read, and what is said when it is wrong."""

from mobilevd.config.load import check_divisible, find_input, find_stage, load_config, repository_root
from mobilevd.config.plan import describe_plan
from mobilevd.config.schema import (
    BaseConfig,
    BenchConfig,
    DataConfig,
    DiffusionConfig,
    EvaluationConfig,
    ExportConfig,
    RunConfig,
    ScenesConfig,
    StageConfig,
    TrainingConfig,
)
from mobilevd.config.transforms import (
    AdversarialObjective,
    CrossAttentionTransform,
    DenoiseObjective,
    FunnelsTransform,
    NoObjective,
    Objective,
    ResolutionTransform,
    SpatialMultiscaleTransform,
    TemporalMultiscaleTransform,
    TemporalPruningTransform,
    Transform,
)

__all__ = [
    "AdversarialObjective",
    "BaseConfig",
    "BenchConfig",
    "CrossAttentionTransform",
    "DataConfig",
    "DenoiseObjective",
    "DiffusionConfig",
    "EvaluationConfig",
    "ExportConfig",
    "FunnelsTransform",
    "NoObjective",
    "Objective",
    "ResolutionTransform",
    "RunConfig",
    "ScenesConfig",
    "SpatialMultiscaleTransform",
    "StageConfig",
    "TemporalMultiscaleTransform",
    "TemporalPruningTransform",
    "TrainingConfig",
    "Transform",
    "check_divisible",
    "describe_plan",
    "find_input",
    "find_stage",
    "load_config",
    "repository_root",
]
