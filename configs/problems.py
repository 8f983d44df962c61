"""Errors of the typed schema as lines for people: the key, what was given, what is expected."""

from __future__ import annotations

import reprlib
from dataclasses import fields, is_dataclass
from typing import Any

from pydantic import ValidationError

from configs.suggestion import did_you_mean

_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = 80


def shortened(value: Any) -> str:
    """`repr`, cut after some entries and characters: values of foreign files can have any size."""
    return _REPR.repr(value)


def describe_problems(kind: type[Any], error: ValidationError) -> list[str]:
    """One line for each problem; for an unknown key with the nearest known one.

    kind: the section (a pydantic model or dataclass) that was validated.
    """
    return [_describe(kind, e["type"], e["loc"], e["msg"], e["input"]) for e in error.errors()]


def _describe(kind: type[Any], error: str, where: tuple[int | str, ...], message: str, value: Any) -> str:
    name = ".".join(map(str, where))
    message = message.removeprefix("Value error, ")  # pydantic's, before messages of ours
    if error not in ("extra_forbidden", "unexpected_keyword_argument"):
        return f"{name}: {message}, got {shortened(value)}" if name else message
    section: Any = kind
    for part in where[:-1]:
        section = section.model_fields[part].annotation
    known = [f.name for f in fields(section)] if is_dataclass(section) else list(section.model_fields)
    hint = did_you_mean(str(where[-1]), known, hint=", did you mean {!r}?")
    return f"{name}: no such key" + (hint or f", expected one of {', '.join(known)}")
