"""Measures and the one report writer."""
