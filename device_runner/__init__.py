"""Measures exported programs on devices: reads bundles, builds and drives the C++ runner, without torch."""
