"""The proof that comes with every program: outputs against the model's, the threshold, the blocks that lose most."""
