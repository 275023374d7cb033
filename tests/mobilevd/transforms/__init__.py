"""Tests of the transforms of the architecture."""
