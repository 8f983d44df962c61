"""Sets of images: where they come from, their features and distances."""
