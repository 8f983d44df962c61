"""Text from files for terminals: no file name or label moves the cursor, changes colours or hides words."""

from __future__ import annotations

import unicodedata

_HIDDEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}  # control, format (such as right-to-left), surrogates, separators


def visible(text: str) -> str:
    r"""The text with control and format characters as escapes: the escape character is written \x1b."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        repr(letter)[1:-1] if unicodedata.category(letter) in _HIDDEN else letter for letter in text
    )


def visible_lines(text: str) -> str:
    """`visible` of each line: line ends stay."""
    return "\n".join(map(visible, text.split("\n")))
