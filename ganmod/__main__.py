"""`python -m ganmod`; for torchrun, `-m ganmod -- COMMAND`: it would take --num for one of its own options."""

from ganmod.cli.main import main

main()
