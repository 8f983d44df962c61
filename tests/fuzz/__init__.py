"""Fuzzing of the commands: hostile files, configurations and command lines. `make fuzz` runs it."""
