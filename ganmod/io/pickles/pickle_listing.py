"""What a pickle would do, from its instructions alone: the names it asks for, and what its values cost."""

from __future__ import annotations

import pickletools
from collections.abc import Iterator
from typing import Any, BinaryIO

from configs.limits import PICKLE_STEPS

MAX_DEPTH = 100  # of containers within containers
_MOST_WEIGHT = 1 << 40  # beyond any limit, so that counts stay small numbers


def list_globals(stream: BinaryIO) -> Iterator[str]:
    """The classes and functions that one pickle names, as module.name; it is not run.

    Follows what its instructions leave on the stack, and raises ValueError for a pickle of more than
    `PICKLE_STEPS` instructions, or of values whose hashes take more steps or nest deeper than the unpickler
    could bear: tuples made of the same tuple twice, 40 times over, are never hashed to the end.
    """
    most = PICKLE_STEPS.value()
    memo: dict[int, _Item] = {}
    stack: list[_Item] = []
    steps = 0
    argument: Any
    for opcode, argument, position in pickletools.genops(stream):
        name = opcode.name
        if name in ("GLOBAL", "INST"):
            yield str(argument).replace(" ", ".", 1)
        elif name.startswith("EXT"):
            yield f"copyreg extension {argument}"
        elif name == "STACK_GLOBAL":
            yield ".".join(item.text for item in stack[-2:])
        taken: list[_Item] = []
        if name == "MEMOIZE":
            memo[len(memo)] = stack[-1]
        elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
            if argument > (position or 0):  # the unpickler would reserve memory up to that entry
                raise ValueError(f"a memo entry {argument} at byte {position}")
            memo[argument] = stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif name == "MARK":
            stack.append(_MARK)
        else:
            taken = _take(stack, opcode)
            stack += _leave(name, taken, argument, len(opcode.stack_after))
        steps += 1 + _hashed(name, taken)
        if steps > most:
            raise ValueError(f"it takes more than {most} steps; {PICKLE_STEPS.how_to_raise}")


class _Item:
    """A value on the unpickler's stack: its text, and how many values it holds and how deep they nest."""

    __slots__ = ("depth", "text", "weight")

    def __init__(self, text: str = "?", weight: int = 1, depth: int = 1) -> None:
        self.text, self.weight, self.depth = text, weight, depth

    def hold(self, items: list[_Item]) -> _Item:
        self.weight = min(self.weight + sum(item.weight for item in items), _MOST_WEIGHT)
        self.depth = max([self.depth, *(item.depth + 1 for item in items)])
        if self.depth > MAX_DEPTH:
            raise ValueError(f"its values nest more than {MAX_DEPTH} deep")
        return self


_MARK = _Item()
# These put values into the container below them, which stays; the others make a new one.
_FILLING = ("APPEND", "APPENDS", "SETITEM", "SETITEMS", "ADDITEMS", "BUILD")
_HASHING = ("FROZENSET", "ADDITEMS", "REDUCE", "NEWOBJ", "NEWOBJ_EX", "OBJ", "INST")


def _take(stack: list[_Item], opcode: pickletools.OpcodeInfo) -> list[_Item]:
    """Take from the stack what an instruction takes."""
    before = opcode.stack_before
    start = len(stack) - len(before)
    if pickletools.markobject in before:
        mark = next(i for i in range(len(stack) - 1, -1, -1) if stack[i] is _MARK)
        start = mark - before.index(pickletools.markobject)
    if start < 0:
        raise ValueError(f"{opcode.name} without values")
    taken = [item for item in stack[start:] if item is not _MARK]
    del stack[start:]
    return taken


def _leave(name: str, taken: list[_Item], argument: Any, count: int) -> list[_Item]:
    """What an instruction leaves on the stack."""
    if name == "DUP":
        return taken * 2
    if name in ("APPEND", "APPENDS"):
        return [taken[0].hold(taken[1:])]
    if name in _FILLING:
        return taken[:1]
    if name == "DICT":  # cannot be hashed, and its keys are already
        return [_Item()]
    return [_Item(argument if isinstance(argument, str) else "?").hold(taken) for _ in range(count)]


def _hashed(name: str, taken: list[_Item]) -> int:
    """Steps of the hashes that an instruction computes, or lets a class compute."""
    if name in ("SETITEM", "SETITEMS"):
        return sum(item.weight for item in taken[1::2])
    if name == "DICT":
        return sum(item.weight for item in taken[::2])
    return sum(item.weight for item in taken) if name in _HASHING else 0
