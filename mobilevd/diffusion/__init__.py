"""The diffusion process of Stable Video Diffusion: preconditioning, noise levels, sampling, micro-conditioning."""
