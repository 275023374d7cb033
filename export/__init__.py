"""Export of the one-step generator to phone runtimes: the folded graph, its targets, the parity proofs, the bundle."""
