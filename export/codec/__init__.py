"""The programs around the UNet as graphs of rank <= 4: image encoder, VAE encoder, decoders."""
