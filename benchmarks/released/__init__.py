"""The parts of benchmarks/released_models.py."""
