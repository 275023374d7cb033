"""The proof that comes with every program: outputs against the model's, the gate, and the blocks that lose most."""
