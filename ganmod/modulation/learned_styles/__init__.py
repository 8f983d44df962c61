"""Modulations of the kind id: what they apply is learned for each style, not predicted from a picture."""
