"""Large images in tiles, clips frame by frame."""
