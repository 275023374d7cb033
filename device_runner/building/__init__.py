"""Builds the C++ runner: for this host, for Android, and as a self-contained folder with all libraries it needs."""
