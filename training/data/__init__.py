"""Video clips for training: real files, procedural scenes, and their latents."""
