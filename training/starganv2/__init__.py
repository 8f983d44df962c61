"""The parts of a StarGAN v2 run."""
