"""The commands that measure on devices; they start without torch, which a measurement does not need."""
