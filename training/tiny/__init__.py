"""The commands that made the tiny models in the repository: base, codec and motion encoder."""
