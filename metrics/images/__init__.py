"""Measures of single images and of pairs."""
