"""Specifications of networks: plain values that JSON can hold, checked when they are set."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, is_dataclass
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from configs.problems import describe_problems
from configs.sections import NetworkOptions
from configs.suggestion import did_you_mean

S = TypeVar("S", bound="NetworkSpec")


@dataclass(frozen=True, kw_only=True)
class NetworkSpec:
    """Base of the specifications: conversion to a dictionary and back, and shared checks."""

    def check_choice(self, name: str, known: tuple[str, ...]) -> None:
        """Raise ValueError unless the field holds one of the known words."""
        if getattr(self, name) not in known:
            raise ValueError(f"{name} is {getattr(self, name)!r}, expected {' or '.join(map(repr, known))}")

    def check_at_least(self, low: int, *names: str) -> None:
        """Raise ValueError unless the fields hold numbers of at least `low`."""
        for name in names:
            if getattr(self, name) < low:
                raise ValueError(f"{name} is {getattr(self, name)}, expected a number from {low}")

    def to_dict(self) -> dict[str, Any]:
        """Values for JSON; `from_dict` gives an equal spec."""
        return {key: list(v) if isinstance(v, tuple) else v for key, v in asdict(self).items()}

    @classmethod
    def from_options(cls: type[S], options: NetworkOptions, **values: Any) -> S:
        """The spec with the options of a configuration's section; `values` override them.

        options: the section that this spec extends; its options for other networks are ignored.
        """
        shared = {
            option.name
            for base in cls.__mro__
            if is_dataclass(base) and isinstance(options, base)
            for option in fields(base)
        }
        return cls(**{name: getattr(options, name) for name in shared} | values)

    @classmethod
    def from_dict(cls: type[S], values: Mapping[str, Any]) -> S:
        """The spec that `to_dict` wrote, with the types and ranges of a configuration.

        Raises ValueError for an unknown or missing key, and for a value of another type or out of range.
        """
        known = [f.name for f in fields(cls)]
        for key in values:
            if key not in known:
                hint = did_you_mean(key, known, hint=" (did you mean {!r}?)")
                raise ValueError(f"{cls.__name__} has no field {key!r}{hint}; it has {', '.join(known)}")
        try:
            return TypeAdapter(cls).validate_json(json.dumps(dict(values)), strict=True)
        except ValidationError as error:
            raise ValueError("; ".join(describe_problems(cls, error))) from error
