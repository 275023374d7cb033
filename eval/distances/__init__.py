"""Distances between two sets of features, beside the Frechet distance."""
