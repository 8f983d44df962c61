"""Strategies for values, bytes and pickles that a program may not expect."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import torch
from hypothesis import strategies as st

from tests.fuzz.process import CANARY

NUMBERS = st.sampled_from(
    [0, -1, 1, 2, 3, 7, 16.0, 1e9, 10**9, 2**31, 2**40, 2**63, 10**30, 1e39, 1e308]
    + [float("inf"), float("-inf"), float("nan"), True]
)
TEXTS = st.one_of(
    st.text(max_size=12),
    st.sampled_from(
        [
            *(
                "",
                "adain",
                "adaconv@4-8,adain@16-",
                "x" * 5000,
                "../canary",
                "\x1b[31mred\x1b[0m",
                "\0",
                "\ud7ff",
            ),
            *(
                "canary_plugin",
                "os:system",
                "canary_plugin:x",
                "-1",
                "1e999",
                "nan",
                "none",
                "auto",
                "mps",
                "cuda:9",
            ),
        ]
    ),
)
VALUES = st.recursive(
    st.one_of(NUMBERS, NUMBERS, TEXTS, st.none(), st.integers()),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=6), inner, max_size=3)
    ),
    max_leaves=5,
)
"""Values that JSON and YAML can hold."""


class Call:
    """Calls a function when it is unpickled; all of them leave the canary and do nothing else."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self.function, self.arguments


CALLS = st.sampled_from(
    [
        Call(os.system, f"touch {CANARY}"),
        Call(Path.touch, Path(CANARY)),
        Call(exec, f"open({CANARY!r}, 'w')"),
        Call(torch.hub.load, CANARY, CANARY),
        Call(open, CANARY, "w"),
    ]
)
DTYPES = [torch.float32, torch.float16, torch.complex64, torch.int64, torch.bool, torch.uint8, torch.bfloat16]


@st.composite
def tensors(draw: st.DrawFn) -> torch.Tensor:
    """Small tensors of any type, and views that repeat a few values without end."""
    shape = draw(st.lists(st.integers(0, 4), max_size=5))
    tensor = torch.zeros(shape, dtype=draw(st.sampled_from(DTYPES)))
    if tensor.ndim and draw(st.integers(0, 9)) == 0:
        tensor = tensor[:1, ...].expand(10**9, *shape[1:]) if shape[0] else tensor
    return tensor


def doubled(value: Any, times: int) -> Any:
    """A tuple of two of the same tuple, and so on: 2^times values."""
    for _ in range(times):
        value = (value, value)
    return value


@st.composite
def objects(draw: st.DrawFn) -> Any:
    """Values for a pickle: nested, shared, deep, with tensors and, at times, with code."""
    leaf = st.one_of(VALUES, tensors(), tensors(), st.binary(max_size=9), CALLS)
    tree = st.recursive(
        leaf,
        lambda inner: st.one_of(
            st.lists(inner, max_size=3),
            st.dictionaries(st.one_of(st.text(max_size=6), st.integers()), inner, max_size=3),
            st.tuples(inner, inner),
        ),
        max_leaves=6,
    )
    value = draw(tree)
    special = draw(st.integers(0, 9))
    if special == 0:
        value = doubled(value, draw(st.integers(1, 60)))
    if special == 1:
        for _ in range(draw(st.integers(1, 400))):
            value = [value]
    return value


OPCODES = [
    code
    for name, code in vars(pickle).items()
    if name.isupper() and isinstance(code, bytes) and len(code) == 1
]


@st.composite
def opcodes(draw: st.DrawFn) -> bytes:
    """A pickle of instructions in any order, with tuples doubled until no hash ends."""
    parts = st.one_of(
        st.sampled_from(OPCODES),
        st.sampled_from(
            [
                *(
                    b"(t" + b"2\x86" * 45,
                    b"(t" + b"\x85" * 100_000,
                    b"}",
                    b"]",
                    b"\x8f",
                    b"N",
                    b"K\x01",
                    b"s",
                    b"u",
                ),
                *(b"\x8c\x05posix", b"\x8c\x06system", b"\x93", b"\x85R", b"ccollections\nOrderedDict\n"),
                *(
                    f"X\x0c\0\0\0touch {CANARY}".encode(),
                    b"cposix\nsystem\n",
                    b"r\xff\xff\xff\x7f",
                    b"I9" + b"9" * 5000 + b"\n",
                ),
                *(
                    b"ctorch\nTensor\n",
                    b"J\xff\xff\xff\x7f",
                    b"cbuiltins\nbytearray\n",
                    b"\x8a\xff" + b"\x7f" * 255,
                ),
            ]
        ),
        st.binary(max_size=3),
    )
    return b"\x80" + bytes([draw(st.integers(0, 5))]) + b"".join(draw(st.lists(parts, max_size=25))) + b"."


@st.composite
def damaged(draw: st.DrawFn, data: bytes) -> bytes:
    """The same bytes after a few accidents: cut, flipped, doubled, overwritten."""
    for _ in range(draw(st.integers(1, 3))):
        where = draw(st.integers(0, max(len(data) - 1, 0)))
        # Most of what a program looks at stands at the beginning and at the end.
        where = (
            draw(st.sampled_from([where, where % 64, len(data) - 1 - where % 64]))
            if len(data) > 64
            else where
        )
        kind = draw(st.sampled_from(["cut", "flip", "flip", "double", "number", "insert"]))
        if kind == "cut":
            data = data[:where]
        elif kind == "flip":
            data = (
                data[:where] + bytes([data[where] ^ 1 << draw(st.integers(0, 7))]) + data[where + 1 :]
                if data
                else data
            )
        elif kind == "double":
            data = data[:where] + data[where : where + 200] * 2 + data[where + 200 :]
        elif kind == "number":
            number = draw(
                st.sampled_from([b"\xff" * 4, b"\xff" * 8, b"\0" * 4, b"\x7f\xff\xff\xff", b"\0\0\0\x40"])
            )
            data = data[:where] + number + data[where + len(number) :]
        else:
            data = data[:where] + draw(st.binary(max_size=20)) + data[where:]
    return data
