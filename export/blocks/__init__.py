"""A program cut into the blocks of the UNet, each a small program of its own that can be measured apart."""
