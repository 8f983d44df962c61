"""`python -m ganmod`; for torchrun `-m ganmod -- COMMAND`: without the dashes it takes --num as its own."""

from ganmod.cli.main import main

main()
