"""What a training shows: figures, clips, throughput, and where they go."""
