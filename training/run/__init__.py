"""What surrounds every training loop: folder, checkpoints, progress, metrics."""
