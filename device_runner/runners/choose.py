"""The choice of a runner for a bundle on a device: the one for the bundle's target, or the one that the user names."""

from __future__ import annotations

from collections.abc import Callable

from device_runner.building.toolchain import find_toolchain
from device_runner.bundle.read import Bundle
from device_runner.devices.base import Device
from device_runner.errors import RunnerError
from device_runner.runners.base import Runner, check_target
from device_runner.runners.deployment import CHOICES, HOST, deployment_for, host_deployment
from device_runner.runners.mobilevd import MobilevdRunner

Make = Callable[[str, Device], Runner]
"""Function from what follows the colon in `NAME:PATH`, and the device, to the runner."""


def _ours(path: str, device: Device) -> Runner:
    if path:
        _refuse_elsewhere(f"mobilevd:{path}", device)
    if path or device.name == HOST:
        return MobilevdRunner(host_deployment(path or None))
    return MobilevdRunner(deployment_for(device.platform()))


def _executor_runner(path: str, device: Device) -> Runner:
    from device_runner.runners.executor_runner import ExecutorRunner

    return ExecutorRunner(_needed("executor_runner", path), device.platform())


def _qnn(path: str, device: Device) -> Runner:
    from device_runner.runners.qnn import QnnRunner

    return QnnRunner(_needed("qnn_executor_runner", path), device.platform())


def _onnxruntime(path: str, device: Device) -> Runner:
    from device_runner.runners.ort import onnxruntime_device, onnxruntime_host

    if device.name == HOST and not path:
        return onnxruntime_host()
    return onnxruntime_device(_needed("onnxruntime", path, "FOLDER"), device.platform())


def _coreml(path: str, device: Device) -> Runner:
    from device_runner.runners.coreml import CoremlRunner

    return CoremlRunner(
        device.platform(), udid=getattr(device, "udid", None), **({"compute_units": path} if path else {})
    )


RUNNERS: dict[str, Make] = {
    "mobilevd": _ours,
    "executor_runner": _executor_runner,
    "qnn_executor_runner": _qnn,
    "onnxruntime": _onnxruntime,
    "coreml": _coreml,
}
DEFAULTS = {
    "executorch-xnnpack": "mobilevd",
    "executorch-vulkan": "mobilevd",
    "executorch-qnn": "qnn_executor_runner",
    "onnx": "onnxruntime",
    "coreml": "coreml",
}
"""A bundle's target -> the runner that it gets unless the user names one."""


def choose_runner(bundle: Bundle, device: Device, choice: str | None = None) -> Runner:
    """The runner that `NAME` or `NAME:PATH` names, or the one for the bundle's target.

    `host`, `ndk` and `glibc` are the forms of our own runner (`deployment.CHOICES`).

    Raises `RunnerError` for an unknown name, or for a target that no runner, or not the one named, can run.
    """
    name, _, path = (choice or DEFAULTS.get(bundle.target, "")).partition(":")
    if not name:
        raise RunnerError(
            f"{bundle.folder}: no runner measures bundles for {bundle.target}; there are runners for {', '.join(DEFAULTS)}"
        )
    if name in CHOICES:
        if name == HOST:
            _refuse_elsewhere(name, device)
        runner: Runner = MobilevdRunner(deployment_for(device.platform(), name))
    elif name in RUNNERS:
        runner = RUNNERS[name](path, device)
    else:
        raise RunnerError(f"unknown runner {name!r}; known: {', '.join([*RUNNERS, *CHOICES])}")
    if reason := check_target(runner, bundle):
        raise RunnerError(reason)
    return runner


def check_runner(target: str, device: Device) -> None:
    """Raise `RunnerError` if bundles of a target cannot be measured on a device: before there is one. Nothing is built."""
    name, platform = DEFAULTS.get(target), device.platform()
    if name is None:
        raise RunnerError(
            f"no runner measures programs of {target} on {device.name}; there are runners for {', '.join(DEFAULTS)}"
        )
    if name == "mobilevd" and platform.system != "android":
        find_toolchain()  # it is built when the first bundle is measured
    else:
        RUNNERS[name]("", device)


def _needed(name: str, path: str, what: str = "FILE") -> str:
    if not path:
        raise RunnerError(f"the runner {name} is a program of your own: say where it lies, --runner {name}:{what}")
    return path


def _refuse_elsewhere(choice: str, device: Device) -> None:
    """Raise `RunnerError` unless the device is the host: such a runner is started where it lies on this machine."""
    if device.name != HOST:
        forms = " or ".join(form for form in CHOICES if form != HOST)
        raise RunnerError(f"the runner {choice} lies on this machine and cannot run on {device.name}; take {forms}")
