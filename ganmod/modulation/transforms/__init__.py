"""Feature transforms: modulations that read a style's features, and learn nothing."""
