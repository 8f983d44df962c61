"""What stands around every training loop: folder, checkpoints, progress, metrics."""
