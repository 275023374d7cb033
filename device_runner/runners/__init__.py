"""Programs that run a bundle's programs on a device: how each is called, and how what it prints is read."""
