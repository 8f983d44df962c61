"""The base of errors that are expected and are no ValueError, and what a lack of memory looks like."""

from __future__ import annotations

import sys


class GanmodError(Exception):
    """An expected failure: the message says what happened and what to do. `exit_code` is the command's."""

    exit_code = 1


# In messages of RuntimeErrors of torch, which has a class only for a GPU's allocator.
_MEMORY_WORDS = (
    "DefaultCPUAllocator",
    "not enough memory",
    "out of memory",
    "ALLOC_FAILED",
    "Storage size calculation overflowed",
    "multiplication overflow",
)


def is_memory_error(error: BaseException) -> bool:
    """Whether an error says that the memory, of the machine or of a GPU, did not suffice."""
    if isinstance(error, MemoryError):
        return True
    torch = sys.modules.get("torch")  # not imported here: a command that fails early need not wait for it
    if torch is not None and isinstance(error, torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(word in str(error) for word in _MEMORY_WORDS)
