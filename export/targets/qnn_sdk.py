"""The place of Qualcomm's SDK, which lowering to its processors needs; this project does not fetch it.

The SDK is Qualcomm AI Engine Direct, called QNN in its own files. ExecuTorch would download it by itself (hundreds of
MB, under Qualcomm's licence) when `QNN_SDK_ROOT` is not set; here the user is asked for it instead.
"""

from __future__ import annotations

import os
from pathlib import Path

from export.quiet import quietly
from mobilevd.errors import UserError

ROOT = "QNN_SDK_ROOT"
LIBRARIES = "lib/x86_64-linux-clang"
NEEDED = ("include/QNN", f"{LIBRARIES}/libQnnHtp.so")
SET_UP = f"export {ROOT}=FOLDER LD_LIBRARY_PATH=FOLDER/{LIBRARIES}:$LD_LIBRARY_PATH"


def sdk_version() -> str:
    """The version of the SDK that the installed ExecuTorch was built and tested with."""
    with quietly():
        from executorch.backends.qualcomm.scripts.download_qnn_sdk import QNN_VERSION

    return QNN_VERSION


def check_sdk(target: str) -> Path:
    """Return the SDK's folder.

    Raises:
        UserError: `QNN_SDK_ROOT` is not set, its folder lacks what is needed, or the loader does not look there.
    """
    root = os.environ.get(ROOT, "")
    if not root:
        version = sdk_version()
        raise UserError(
            f"target {target} needs Qualcomm's SDK (Qualcomm AI Engine Direct, also called QNN or AI Runtime) of version "
            f"{version} on this machine, and {ROOT} is not set; get it from https://softwarecenter.qualcomm.com "
            f"(Qualcomm_AI_Runtime_Community, v{version}.zip), unpack it, and say where its folder qairt/{version} is: "
            f"{SET_UP}"
        )
    folder = Path(root)
    if missing := [name for name in NEEDED if not (folder / name).exists()]:
        what = "does not exist" if not folder.is_dir() else f"has no {' and no '.join(missing)}"
        raise UserError(
            f"target {target}: {ROOT} is {root}, which {what}; it must be the folder of Qualcomm AI Engine Direct "
            f"{sdk_version()} that holds include/ and lib/ (qairt/{sdk_version()} in the archive)"
        )
    libraries = (folder / LIBRARIES).resolve()
    if libraries not in (Path(path).resolve() for path in os.environ.get("LD_LIBRARY_PATH", "").split(":") if path):
        raise UserError(
            f"target {target}: {ROOT} is {root}, but LD_LIBRARY_PATH does not hold {libraries}, where the loader must find "
            f"Qualcomm's libraries from the start; set both before the command: {SET_UP}"
        )
    return folder
