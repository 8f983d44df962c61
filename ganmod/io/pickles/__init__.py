"""Reading of pickles without running what they name."""
