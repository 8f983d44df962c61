"""Measures of style transfer."""
