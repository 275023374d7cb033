"""Distances between two sets of features: Frechet, exact and as published code rounds it, and polynomial MMD."""
