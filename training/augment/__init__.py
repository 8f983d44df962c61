"""Augmentations of the discriminator's images."""
