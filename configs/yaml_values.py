"""YAML of plain values, within limits: size, depth, and the number of values that aliases multiply."""

from __future__ import annotations

from typing import Any

import yaml

from configs.limits import CONFIG_DEPTH, CONFIG_KB, CONFIG_VALUES, KB


class _Loader(yaml.SafeLoader):
    """The safe loader without merge keys (`<<`), which can multiply a small file without end."""

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Leave the mapping as it is: `<<` is then an unknown tag."""


def read_yaml(text: str, source: str) -> Any:
    """The value of a YAML text.

    Args:
        text: one document.
        source: where it comes from, for messages.

    Raises:
        ValueError: for text that is no YAML, and beyond a limit of `configs.limits`.
    """
    CONFIG_KB.check(len(text) / KB, source)
    try:
        value = yaml.load(text, Loader=_Loader)
    except RecursionError as error:
        raise ValueError(
            f"{source} holds values nested beyond Python's recursion limit, expected at most "
            f"{CONFIG_DEPTH.value()} levels"
        ) from error
    # The constructors of numbers, dates and explicit tags raise other types than YAMLError.
    except (yaml.YAMLError, ValueError, LookupError, TypeError, AttributeError, OverflowError) as error:
        raise ValueError(f"{source} is no YAML: {error}") from error
    _check_size(value, source)
    return value


def _check_size(value: Any, source: str) -> None:
    """Walk over the value as often as aliases refer to its parts, up to the limits."""
    most = CONFIG_VALUES.value()
    count, level, depth = 0, [value], 0
    while level:
        count += len(level)
        CONFIG_VALUES.check(count, source)
        CONFIG_DEPTH.check(depth, source)
        inner: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                inner += item.values()
            elif isinstance(item, list | set | tuple):
                inner += item
            if len(inner) > most:
                break
        level, depth = inner, depth + 1
