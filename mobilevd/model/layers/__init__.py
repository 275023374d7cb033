"""The building blocks of the UNet, one definition for training and for phones; no tensor in them has rank above 4."""
