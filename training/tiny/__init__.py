"""What made the tiny models that ship with the repository: base, codec and motion encoder, each by a command."""
