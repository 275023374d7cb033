"""Figures of a clip's frames, one clip at a time: against the same clip of a reference, or by themselves."""
