"""Images on disk and what is drawn from them, by seed and position."""
