"""What is known of the videos of a source: read once, in parallel, and kept in a file beside the run."""
