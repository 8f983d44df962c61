"""The result of a command, and a check of its failures."""

from __future__ import annotations

from typing import NamedTuple


class Ended(NamedTuple):
    """The result of a command: exit code, standard output, standard error."""

    code: int
    out: str
    err: str


def assert_fails(ended: Ended, code: int, *words: object) -> None:
    """Check the exit code, and a message on standard error with all words and without a traceback."""
    assert ended.code == code, ended.err
    assert "Traceback" not in ended.err
    message = " ".join(ended.err.split())
    for word in words:
        assert str(word) in message, message
