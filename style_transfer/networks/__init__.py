"""The networks of the style-transfer models."""
