"""Evaluation: distances between clips, motion, fidelity, contact sheets and the report. It knows clips, not models."""

from eval.distances.frechet import frechet_distance

__all__ = ["frechet_distance"]
