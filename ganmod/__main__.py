"""`python -m ganmod`, for torchrun."""

from ganmod.cli.main import main

main()
