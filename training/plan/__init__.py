"""The memory and the operations of a training, counted at its real size without running it."""
