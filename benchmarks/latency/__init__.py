"""The shared parts of the speed benchmarks: the model that is measured, its engines, and the machine's own speed."""
