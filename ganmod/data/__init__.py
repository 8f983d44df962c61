"""Data sets of images on disk, and random draws by seed and position."""
