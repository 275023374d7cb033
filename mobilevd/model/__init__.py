"""The denoiser: the UNet, its layers and blocks, its folders and what one evaluation costs."""
