"""What the rest of the package, and the command line, need of `building`."""

from device_runner.building.cache import default_cache_dir
from device_runner.building.command import build_runner_command, describe_built
from device_runner.building.host import build_host_runner
from device_runner.building.layout import Built
from device_runner.building.toolchain import find_toolchain

__all__ = [
    "Built",
    "build_host_runner",
    "build_runner_command",
    "default_cache_dir",
    "describe_built",
    "find_toolchain",
]
