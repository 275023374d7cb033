"""The denoiser: the UNet, its layers and blocks, its folders and the cost of one evaluation."""
