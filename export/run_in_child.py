"""Programs of others run in a process of their own: a damaged one ends that process, and not the command."""

from __future__ import annotations

import multiprocessing
import signal
from importlib import import_module
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from device_runner.bundle.read import Bundle
from mobilevd.ctrl_c import children_deaf_to_ctrl_c
from mobilevd.errors import UserError
from mobilevd.hush import hush

if TYPE_CHECKING:
    import numpy as np


def generate_in_child(bundle: Bundle, picture: Path, seed: int, threads: int | None = None) -> np.ndarray:
    """`generate_with_bundle` in a process of its own.

    Raises UserError as it does, and if the process dies: the runtime cannot stand the program.
    """
    return _in_child(str(bundle.folder), "export.run_bundle", "generate_with_bundle", bundle, picture, seed, threads)


def _in_child(what: str, module: str, name: str, *arguments: Any) -> Any:
    context = multiprocessing.get_context("spawn")  # a fork of a process with threads may hang
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_run, args=(sender, what, module, name, arguments), daemon=True)
    with children_deaf_to_ctrl_c():
        process.start()
    sender.close()
    try:
        answer = receiver.recv()
    except EOFError:
        process.join()
        code = process.exitcode or 0
        died = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        raise UserError(
            f"{what}: a program of the bundle ended the process that ran it ({died}); it is damaged"
        ) from None
    finally:
        process.kill()
        process.join()
        receiver.close()
    kind, value = answer
    if kind == "error":
        raise UserError(value)
    return value


def _run(sender: Connection, what: str, module: str, name: str, arguments: tuple[Any, ...]) -> None:
    hush()  # so the function comes by its name: what it imports speaks while it is imported
    try:
        answer = ("value", getattr(import_module(module), name)(*arguments))
    except UserError as error:
        answer = ("error", str(error))
    except Exception as error:  # whatever the runtime raises about a program is about the program
        first_line = (str(error).strip() or type(error).__name__).splitlines()[0]
        answer = ("error", f"{what}: a program of the bundle does not run: {first_line}")
    sender.send(answer)
    sender.close()
