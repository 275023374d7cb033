"""The configuration of a run: what can be said, how it is read, and what is said when it is wrong. Needs no torch."""

from mobilevd.config.load import check_divisible, find_stage, load_config
from mobilevd.config.plan import describe_plan
from mobilevd.config.schema import RunConfig

__all__ = ["RunConfig", "check_divisible", "describe_plan", "find_stage", "load_config"]
