"""Exports the one-step generator to phone runtimes: the folded graph, its targets, the proofs, and the bundle."""
