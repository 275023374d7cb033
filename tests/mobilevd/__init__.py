"""Tests of the model, its transforms and its arithmetic."""
