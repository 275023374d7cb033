"""Programs that run a bundle's programs on a device: starting each, and reading what it prints."""
