"""The parts of the training loop: shares of a batch, optimizers, averages, parallelism, precision, checkpoints."""
