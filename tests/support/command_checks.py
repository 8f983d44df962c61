"""How a command ended, and what a test of its failures looks at."""

from __future__ import annotations

from typing import NamedTuple


class Ended(NamedTuple):
    """How a command ended: exit code, standard output, standard error."""

    code: int
    out: str
    err: str


def assert_fails(ended: Ended, code: int, *words: object) -> None:
    """The exit code; a message on standard error that holds all the words, however broken; no traceback."""
    assert ended.code == code, ended.err
    assert "Traceback" not in ended.err
    said = " ".join(ended.err.split())
    for word in words:
        assert str(word) in said, said
