"""`python -m ganmod`; for torchrun `-m ganmod -- COMMAND`: without the dashes it takes --num as its own."""

import sys
from pathlib import Path

# `python -m` puts the working directory first; a clone of NVIDIA's repositories has a `training` there.
if not sys.flags.safe_path and Path(sys.path[0]) != Path(__file__).resolve().parents[1]:
    sys.path.append(sys.path.pop(0))

from ganmod.cli.main import main

main()
