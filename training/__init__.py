"""Data, loops, checkpoints and logs for training."""
