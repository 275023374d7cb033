"""Clips that a feature network was not made for: their features, and so their distances, say only that they are strange."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np

from eval.features import FeatureExtractor

TOLERATED = 0.02
"""Share of clips outside that is not worth a word; of a network's own training clips 0.1 % lie there."""


@runtime_checkable
class KnowsItsDomain(Protocol):
    """An extractor that can tell, by a clip's features, whether it was trained on clips like it."""

    def is_outside(self, features: np.ndarray, /) -> np.ndarray:
        """Features (N, D) -> bool (N,)."""
        ...


def share_outside(extractor: FeatureExtractor, features: np.ndarray) -> float | None:
    """The share of clips (by features, N x D) unlike all that the extractor was trained on; None if it does not know."""
    return float(extractor.is_outside(features).mean()) if isinstance(extractor, KnowsItsDomain) else None


def outside_domain(extractor: FeatureExtractor, features: np.ndarray, what: str) -> str | None:
    """A remark on clips outside of the extractor's domain; None where there are next to none."""
    share = share_outside(extractor, features)
    if share is None or share <= TOLERATED:
        return None
    return (
        f"{share:.0%} of the {what} are unlike all that {extractor.name} was trained on: distances say that they are "
        "strange there, and little about how good they are"
    )
