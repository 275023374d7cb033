"""The one-step generator as a graph: preconditioning and UNet in one, with all constants folded in."""
