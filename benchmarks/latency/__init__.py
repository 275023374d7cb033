"""What the speed benchmarks share: the model that is measured, the engines that run it, and the machine's own speed."""
