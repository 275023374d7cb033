"""A program before and after it is lowered: inputs, references, parity, delegation, precision layer by layer."""
