"""Distances between two sets of features: Frechet, exact and as published code rounds it, and polynomial MMD."""

from eval.distances.make import Distance, make_distance

__all__ = ["Distance", "make_distance"]
