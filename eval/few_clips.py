"""What a reader must know of a Frechet distance of few clips."""

from __future__ import annotations


def singular_covariance(
    count: int, what: str, features: int, distance_name: str, remedy: str = "take more"
) -> str | None:
    """A remark on `count` clips where they are no more than the features; None where they are more."""
    if count > features:
        return None
    return (
        f"{count} {what} are no more than the {features} features: their covariance is singular, and {distance_name} is "
        f"far above that of many clips; compare it with those of as many clips only, or {remedy}: above {features}"
    )
