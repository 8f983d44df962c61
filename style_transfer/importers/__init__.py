"""Weights of other programs as style-transfer models."""
