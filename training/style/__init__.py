"""The parts of a style-transfer run."""
