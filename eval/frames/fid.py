"""The Frechet distance between frames, from sums that grow with the network's features and not with the frames."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mobilevd.errors import UserError


@dataclass
class FrameStatistics:
    """Number, mean (D,) and scatter (D, D), the sum of `(x - mean)(x - mean)^T`, of feature vectors; float64."""

    count: int = 0
    mean: np.ndarray | None = None
    scatter: np.ndarray | None = None

    def add(self, features: np.ndarray) -> None:
        """Add features (n, D). Chan et al. 1983's update of a mean and a scatter, so that nothing cancels."""
        features = np.asarray(features, dtype=np.float64)
        mean = features.mean(axis=0)
        centred = features - mean
        scatter, count = centred.T @ centred, len(features)
        if self.mean is None or self.scatter is None:
            self.count, self.mean, self.scatter = count, mean, scatter
            return
        total, shift = self.count + count, mean - self.mean
        self.scatter += scatter + np.outer(shift, shift) * (self.count * count / total)
        self.mean += shift * (count / total)
        self.count = total

    def gaussian(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean (D,) and a factor R (D, D) with R^T R = the unbiased covariance. UserError for fewer than 2 vectors."""
        if self.mean is None or self.scatter is None or self.count < 2:
            raise UserError(f"FID: at least 2 frames are needed, got {self.count}")
        values, vectors = np.linalg.eigh(self.scatter / (self.count - 1))
        return self.mean, np.sqrt(np.maximum(values, 0))[:, None] * vectors.T


def frame_distance(x: FrameStatistics, y: FrameStatistics) -> float:
    """Squared Frechet distance of the Gaussians of two sets of frames: FID (Heusel et al. 2017) on Inception's features.

    As `eval.distances.frechet`: the covariance part is the squared norm `|A - Q B|^2` with Q the polar factor of `A B^T`.
    """
    (mean_x, a), (mean_y, b) = x.gaussian(), y.gaussian()
    if a.shape != b.shape:
        raise UserError(f"FID: features of {len(mean_x)} and of {len(mean_y)} numbers cannot be compared")
    u, _, vt = np.linalg.svd(a @ b.T)
    return float(np.sum((mean_x - mean_y) ** 2) + np.sum((a - (u @ vt) @ b) ** 2))
