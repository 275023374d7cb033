"""Quantization: what each layer's numbers become, what that costs in accuracy, and which layers are worth more bits."""
