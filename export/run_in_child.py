"""Programs of others run in a process of their own: a damaged one ends that process, and not the command."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from device_runner.bundle.read import Bundle
from export.run_bundle import generate_with_bundle
from mobilevd.errors import UserError


def generate_in_child(bundle: Bundle, picture: Path, seed: int, threads: int | None = None) -> np.ndarray:
    """`generate_with_bundle` in a process of its own.

    Raises UserError as it does, and if the process dies: the runtime cannot stand the program.
    """
    return _in_child(str(bundle.folder), generate_with_bundle, bundle, picture, seed, threads)


def _in_child(what: str, function: Callable[..., Any], *arguments: Any) -> Any:
    context = multiprocessing.get_context("spawn")  # a fork of a process with threads may hang
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_run, args=(sender, function, arguments), daemon=True)
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


def _run(sender: Connection, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    try:
        answer = ("value", function(*arguments))
    except UserError as error:
        answer = ("error", str(error))
    except Exception as error:  # whatever the runtime raises about a program is about the program
        first_line = (str(error).strip() or type(error).__name__).splitlines()[0]
        answer = ("error", f"{arguments[0].folder}: a program of the bundle does not run: {first_line}")
    sender.send(answer)
    sender.close()
