"""Quantization: each layer's numbers in fewer bits, the size that this gives, and the rounding simulated in PyTorch."""
