"""If this fails, a small pickle of hostile values hangs or crashes the process that reads it."""

from __future__ import annotations

import io
import pickle
from collections import Counter, OrderedDict
from pathlib import Path
from typing import Any

import pytest

from ganmod.io.pickles.module_pickle import read_module_pickle
from ganmod.io.pickles.pickle_listing import list_globals
from ganmod.io.pickles.restricted_unpickle import read_tensors_pickle

DOUBLED = b"(t" + b"2\x86" * 45  # the empty tuple, 45 times made to a pair of itself
NESTED = b"(t" + b"\x85" * 200_000  # a tuple in a tuple in a tuple; C code that hashes it overflows the stack


def names(data: bytes) -> list[str]:
    return list(list_globals(io.BytesIO(data)))


@pytest.mark.parametrize(
    "use",
    [
        b"\x80\x04}%bNs.",  # a key
        b"\x80\x04}(%bNu.",  # a key of several
        b"\x80\x04(%bNd.",  # a key of a dictionary at once
        b"\x80\x04\x8f(%b\x90.",  # a member of a set
        b"\x80\x04(%b\x91.",  # of a frozen set
        b"\x80\x04ccollections\nCounter\n](%be\x85R.",  # counted by a class
        b"\x80\x04}2%bNs0.",  # in a copy that is dropped
    ],
)
@pytest.mark.parametrize(("value", "reason"), [(DOUBLED, "more than 2000000 steps"), (NESTED, "100 deep")])
def test_values_that_are_never_hashed_to_the_end_are_refused(
    tmp_path: Path, use: bytes, value: bytes, reason: str
):
    path = tmp_path / "n.pkl"
    path.write_bytes(use.replace(b"%b", value))
    with pytest.raises(ValueError, match=reason):
        names(path.read_bytes())
    for read in (read_module_pickle, read_tensors_pickle):
        with pytest.raises(ValueError, match=rf"{reason}|collections\.Counter"):
            read(path)


def test_a_pickle_of_very_many_values_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("GANMOD_MAX_PICKLE_STEPS", "1000")
    assert names(b"\x80\x04](" + b"\x8f" * 995 + b"e.") == []
    with pytest.raises(ValueError, match=r"more than 1000 steps; .* GANMOD_MAX_PICKLE_STEPS to a larger"):
        names(b"\x80\x04](" + b"\x8f" * 996 + b"e.")


@pytest.mark.parametrize("protocol", range(6))
def test_what_pickle_writes_is_followed(protocol: int):
    shared = (1, "two")
    value: dict[Any, Any] = {
        shared: [shared, {3.0}, frozenset((4,)), b"5", bytearray(b"6"), None],
        "names": [OrderedDict(a=1), Counter("aab"), 1 << 70],
        "long": list(range(5000)),
    }
    found = set(names(pickle.dumps(value, protocol=protocol)))
    # The first protocols write bytes and sets as calls.
    assert {"collections.OrderedDict", "collections.Counter"} <= found
    builtins = {"set", "frozenset", "bytearray", "bytes"}
    allowed = {"collections.OrderedDict", "collections.Counter", "_codecs.encode"}
    allowed |= {f"{module}.{name}" for module in ("builtins", "__builtin__") for name in builtins}
    assert found <= allowed
