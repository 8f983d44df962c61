"""The parts of a StyleGAN2 run."""
