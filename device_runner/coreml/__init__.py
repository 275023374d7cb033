"""Core ML programs on a Mac, or on an iPhone connected to it, timed by coremltools' benchmarker."""
