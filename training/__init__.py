"""Training: data, the one loop for every objective, and the objectives."""
