"""Registry of modulations by name."""

from __future__ import annotations

import contextlib
import inspect
import json
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from pydantic import PydanticUserError, TypeAdapter, ValidationError
from torch import nn

from configs.problems import shortened
from configs.suggestion import did_you_mean
from ganmod.modulation.base import Modulation, StyleKind, StyleSpec

M = TypeVar("M", bound=type[Modulation])

_REGISTRY: dict[str, type[Modulation]] = {}


@dataclass(frozen=True)
class ModulationInfo:
    """One row of `ganmod modulations`.

    Attributes:
        name: in the registry.
        kinds: of styles that it reads.
        summary: first line of its docstring, with its source.
        options: with their defaults.
    """

    name: str
    kinds: tuple[StyleKind, ...]
    summary: str
    options: dict[str, Any]


def register_modulation(name: str) -> Callable[[M], M]:
    """Class decorator that makes a `Modulation` available under `name`.

    Raises ValueError for a name in use and for a class without `predict`, or without `modulate` and
    `convolve`.
    """

    def register(cls: M) -> M:
        if name in _REGISTRY:
            owner = f"{_REGISTRY[name].__module__}.{_REGISTRY[name].__qualname__}"
            raise ValueError(f"a modulation named {name!r} exists already ({owner}): choose another name")
        if cls.modulate is Modulation.modulate and cls.convolve is Modulation.convolve:
            raise ValueError(
                f"{cls.__qualname__} overrides neither modulate() nor convolve(): it would do nothing"
            )
        if cls.predict is Modulation.predict:
            raise ValueError(f"{cls.__qualname__} does not override predict(): it has no parameters to apply")
        _REGISTRY[name] = cls
        return cls

    return register


def list_modulations(kind: StyleKind | None = None) -> list[str]:
    """Registered names, sorted; with a kind of style those that can read it."""
    return sorted(name for name, cls in _REGISTRY.items() if kind is None or kind in cls.style_kinds)


def modulation_info(name: str) -> ModulationInfo:
    """Kinds of styles, summary and options of one modulation; ValueError for an unknown name."""
    cls = _lookup(name)
    summary = (inspect.getdoc(cls) or "").split("\n")[0]
    return ModulationInfo(name, cls.style_kinds, summary, _options(cls))


def modulations_for(style: StyleSpec) -> list[str]:
    """Names of the modulations that a host supplying `style` can use."""
    return list_modulations(style.kind)


def create_modulation(
    name: str, channels: int, style: StyleSpec, options: Mapping[str, Any] | None = None
) -> Modulation:
    """Build the modulation `name` for a convolution with `channels` input channels.

    Raises ValueError for an unknown name or option (with the nearest one), for an option of another type or
    out of its range, and for a style it cannot use.
    """
    cls = _lookup(name)
    if style.kind not in cls.style_kinds:
        fitting = ", ".join(modulations_for(style)) or "none"
        raise ValueError(
            f"modulation {name!r} needs a style of kind {' or '.join(cls.style_kinds)}, but this host "
            f"supplies {style.kind!r}. Modulations that fit: {fitting}"
        )
    given = dict(options or {})
    known = _options(cls)
    for option in given:
        if option not in known:
            raise ValueError(
                f"modulation {name!r} has no option {option!r}{_nearest(option, list(known))}. "
                f"Its options: {', '.join(known) or 'none'}"
            )
    return cls(channels, style, **_typed_options(cls, name, given))


def _typed_options(cls: type[Modulation], name: str, options: dict[str, Any]) -> dict[str, Any]:
    """The options as the constructor declares them: a list of a file becomes a tuple; ValueError if unfit.

    Types that cannot be looked up, or of which pydantic knows nothing, are left to the constructor.
    """
    try:
        types = get_type_hints(cls.__init__, include_extras=True) if options else {}
    except (NameError, TypeError):  # such as names that are imported for type checkers only
        return options
    typed = {}
    for option, value in options.items():
        try:
            adapter: TypeAdapter[Any] = TypeAdapter(types.get(option, Any))
            text = json.dumps(value)
        except (PydanticUserError, TypeError, ValueError):  # a class of one's own, or no JSON
            typed[option] = value
            continue
        with contextlib.suppress(ValidationError):
            typed[option] = adapter.validate_python(value, strict=True)
            continue
        try:
            typed[option] = adapter.validate_json(text, strict=True)
        except ValidationError as error:
            reason = error.errors()[0]["msg"]
            raise ValueError(
                f"modulation {name!r}, option {option}: {reason}, got {shortened(value)}"
            ) from error
    return typed


def describe_plugins(network: nn.Module) -> dict[str, dict[str, str]]:
    """{"plugins": {modulation: its Python module}} for the modulations of a network that are not ganmod's.

    Model files hold this, so that `check_plugins` can name the module; empty for ganmod's own modulations.
    """
    used = {type(module) for module in network.modules()}
    foreign = {
        name: _importable_name(cls)
        for name, cls in _REGISTRY.items()
        if cls in used and not cls.__module__.startswith("ganmod.")
    }
    return {"plugins": dict(sorted(foreign.items()))} if foreign else {}


def _importable_name(cls: type) -> str:
    """The module of a class; of a script that is run, its own name instead of __main__."""
    if cls.__module__ != "__main__":
        return cls.__module__
    main = sys.modules["__main__"]
    spec = getattr(main, "__spec__", None)
    return spec.name if spec is not None else Path(getattr(main, "__file__", "__main__")).stem


def check_plugins(config: Mapping[str, Any], *, source: str | Path) -> None:
    """Raise ValueError for a model with a modulation whose module is not imported; nothing is imported here.

    Args:
        config: a model file's configuration, with what `describe_plugins` gave.
        source: the file, for messages.
    """
    plugins = config.get("plugins", {})
    for name, module in plugins.items() if isinstance(plugins, Mapping) else ():
        if name not in _REGISTRY:
            raise ValueError(
                f"{source}: was made with the modulation {shortened(name)} of the Python module "
                f"{shortened(module)}, which runs as your own code: read it, and add --plugin "
                f"{shortened(module)[1:-1]} (in Python, import it first)"
            )


def modulation_per_resolution(text: str, resolutions: Sequence[int]) -> dict[int, str]:
    """The modulation of each resolution: "adaconv" for all, or "adaconv@4-32,weight_demod@64-" by ranges.

    A range is "32", "4-32", "-32" or "64-", both ends included. Raises ValueError for an unknown modulation,
    an invalid range, ranges that overlap, and a resolution in no range.
    """
    parts = [part.strip() for part in text.split(",")]
    if len(parts) == 1 and "@" not in text:
        _lookup(parts[0])
        return dict.fromkeys(resolutions, parts[0])
    chosen: dict[int, str] = {}
    for part in parts:
        name, _, span = part.partition("@")
        ends = re.fullmatch(r"(\d+)|(\d*)-(\d*)", span.strip())
        if ends is None or span.strip() in ("", "-"):
            raise ValueError(
                f"modulation {text!r}: {part!r} is not NAME@FROM-TO; expected for example adaconv@4-32, "
                "adaconv@16, weight_demod@64-"
            )
        name = name.strip()
        _lookup(name)
        low, high = (ends[1], ends[1]) if ends[1] else (ends[2], ends[3])
        for resolution in resolutions:
            if int(low or 0) <= resolution <= int(high or resolution):
                if resolution in chosen:
                    raise ValueError(
                        f"modulation {text!r} names both {chosen[resolution]} and {name} for resolution "
                        f"{resolution}: give ranges that do not overlap"
                    )
                chosen[resolution] = name
    missing = [resolution for resolution in resolutions if resolution not in chosen]
    if missing:
        raise ValueError(
            f"modulation {text!r} leaves out resolution {', '.join(map(str, missing))}: the network has "
            f"{', '.join(map(str, resolutions))}; a range open to one side, such as {parts[-1].split('@')[0]}"
            f"@{missing[0]}-, covers what is left"
        )
    return {resolution: chosen[resolution] for resolution in resolutions}


def options_per_modulation(options: Mapping[str, Any], names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """The options of each modulation in `names`.

    Args:
        options: nested by name, {"adaconv": {"normalize": "none"}}; for a single modulation also flat.

    Raises:
        ValueError: for options of several modulations that are not nested.
    """
    names = list(dict.fromkeys(names))
    if all(key in _REGISTRY and isinstance(value, Mapping) for key, value in options.items()):
        return {name: dict(options.get(name, {})) for name in names}
    if len(names) == 1:
        return {names[0]: dict(options)}
    raise ValueError(
        f"modulation options {dict(options)} do not say which of {', '.join(names)} they are for: "
        f"nest them, such as {{{names[0]!r}: {dict(options)}}}"
    )


def check_options_used(text: str, options: Mapping[str, Any]) -> None:
    """Raise ValueError for options, nested by name, of modulations that `text` does not name.

    For new networks: files of trained ones may hold such options, which change nothing. text: as for
    `modulation_per_resolution`.
    """
    names = {part.partition("@")[0].strip() for part in text.split(",")}
    unused = [key for key, value in options.items() if key in _REGISTRY and isinstance(value, Mapping)]
    unused = [key for key in unused if key not in names]
    if unused:
        raise ValueError(
            f"modulation_options are given for {', '.join(unused)}, but the modulation is {text!r}: leave "
            "them out, or choose that modulation"
        )


def _lookup(name: str) -> type[Modulation]:
    if name not in _REGISTRY:
        raise ValueError(
            f"unknown modulation {name!r}{_nearest(name, list_modulations())}. "
            f"Registered: {', '.join(list_modulations())}. "
            "A module of your own is loaded with --plugin pkg.module"
        )
    return _REGISTRY[name]


def _options(cls: type[Modulation]) -> dict[str, Any]:
    parameters = list(inspect.signature(cls).parameters.values())[2:]  # after channels and style
    return {p.name: p.default for p in parameters}


def _nearest(word: str, known: list[str]) -> str:
    return did_you_mean(word.lower(), known, hint=" (did you mean {!r}?)")
