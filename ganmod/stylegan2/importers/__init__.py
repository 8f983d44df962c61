"""StyleGAN2 weights of other implementations."""
