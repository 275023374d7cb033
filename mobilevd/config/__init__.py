"""The configuration of a run: its settings, how they are read, and the messages for wrong ones. Needs no torch."""

from mobilevd.config.load import check_divisible, find_stage, load_config
from mobilevd.config.plan import describe_plan
from mobilevd.config.schema import RunConfig

__all__ = ["RunConfig", "check_divisible", "describe_plan", "find_stage", "load_config"]
