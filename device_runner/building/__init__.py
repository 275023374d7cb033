"""Builds the C++ runner: for this host, for Android, and as a bundle of its own with all libraries it needs."""
