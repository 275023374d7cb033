"""The commands of `mobilevd`, one file each; the commands that measure start without importing torch."""
