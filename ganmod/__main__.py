"""`python -m ganmod`; for torchrun `-m ganmod -- COMMAND`: without the dashes it takes --num as its own."""

import os
import sys
from pathlib import Path

# `python -m` puts the working directory first; a clone of NVIDIA's repositories has a `training` there.
if sys.path[0] in ("", os.getcwd()) and Path.cwd() != Path(__file__).resolve().parents[1]:
    sys.path.append(sys.path.pop(0))

from ganmod.cli.main import main

main()
