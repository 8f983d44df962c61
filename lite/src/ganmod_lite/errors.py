"""The errors that the command shows as one line."""

from __future__ import annotations


class LiteError(Exception):
    """Something cannot be done. The message says what was given, what is expected, and what to do."""

    exit_code = 1


class WrongUsage(LiteError):
    """Arguments that are unknown, missing, or contradict each other."""

    exit_code = 2
