"""The limits of what is read; an environment variable raises each. Every package may import configs."""

from __future__ import annotations

import os
from typing import NamedTuple


class Limit(NamedTuple):
    """The most of something that is accepted, in units of `unit`."""

    variable: str
    default: int
    unit: str

    def value(self) -> int:
        """The limit that holds: the environment variable's, if it is set.

        Raises ValueError for a variable that is no whole number from 1 on.
        """
        text = os.environ.get(self.variable, "")
        if not text:
            return self.default
        if not (text.isascii() and text.isdigit() and int(text)):
            raise ValueError(f"{self.variable} is {text!r}, expected a whole number of {self.unit} from 1 on")
        return int(text)

    def check(self, amount: float, what: str) -> None:
        """Raise ValueError, with the variable to set, if `what` has more than the limit, in the same unit."""
        limit = self.value()
        if amount > limit:
            raise ValueError(
                f"{what} has {amount:,.6g} {self.unit}, and the limit is {limit:,}: {self.how_to_raise}"
            )

    @property
    def how_to_raise(self) -> str:
        """The end of a message about the limit."""
        return f"if that is meant, set the environment variable {self.variable} to a larger number"


MEGAPIXELS = Limit("GANMOD_MAX_MEGAPIXELS", 178, "megapixels")  # of a picture; Pillow's own limit
FILE_MB = Limit("GANMOD_MAX_FILE_MB", 1024, "MB")  # of a picture's file, or an archive's entry when inflated
JSON_MB = Limit("GANMOD_MAX_JSON_MB", 128, "MB")  # of the labels of a data set
CONFIG_KB = Limit("GANMOD_MAX_CONFIG_KB", 1024, "KB")  # of a configuration
CONFIG_DEPTH = Limit("GANMOD_MAX_CONFIG_DEPTH", 32, "levels")  # of values in each other
CONFIG_VALUES = Limit("GANMOD_MAX_CONFIG_VALUES", 100_000, "values")  # each as often as it is referred to
PICKLE_STEPS = Limit("GANMOD_MAX_PICKLE_STEPS", 2_000_000, "steps")  # to read a pickle
UNPACKED_RATIO = Limit(
    "GANMOD_MAX_UNPACKED_RATIO", 20, "times"
)  # what a checkpoint holds, to the file's size
WORKERS = Limit("GANMOD_MAX_WORKERS", 128, "workers")  # threads or processes that load images
LIMITS = (
    *(MEGAPIXELS, FILE_MB, JSON_MB, CONFIG_KB, CONFIG_DEPTH, CONFIG_VALUES),
    *(PICKLE_STEPS, UNPACKED_RATIO, WORKERS),
)

MB, KB = 10**6, 10**3
