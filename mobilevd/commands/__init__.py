"""The commands of `mobilevd`, one file each; those that measure start without torch."""
