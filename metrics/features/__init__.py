"""Feature spaces, by name."""
