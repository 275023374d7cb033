"""What a stage trains with: the denoising loss, or the adversarial one-step losses."""
