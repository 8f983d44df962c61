"""Refuses to build the package without its model, which `make lite` writes."""

import sys
from pathlib import Path

from setuptools import setup

if not (Path(__file__).parent / "src" / "ganmod_lite" / "model" / "model.json").is_file():
    sys.exit(
        "ganmod-lite: src/ganmod_lite/model is missing, expected the model's files in it: "
        "run `make lite` in the repository first, then `pip install ./lite`"
    )

setup()
