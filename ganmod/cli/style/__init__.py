"""`ganmod stylize` and `ganmod optimize`."""
