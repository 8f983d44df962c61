"""Networks that a file describes: built within what the file's tensors can fill, and filled with them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ganmod.io.model_file import ModelFileError, load_state

N = TypeVar("N", bound=nn.Module)

# A network's numbers are drawn once, then kept or scaled; buffers that are not stored come on top.
_NUMBERS, _SPARE_NUMBERS = 2, 1 << 25
_CALLS, _SPARE_CALLS = 4, 1000
_FACTORIES = frozenset(
    {
        *(torch.empty, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn),
        *(torch.eye, torch.arange, torch.linspace),
    }
)


def build_to_fit(make: Callable[[], N], tensors: Mapping[str, Tensor], *, source: str | Path) -> N:
    """Build a network and copy `tensors` into it: all of them, and nothing else, as `load_state` does.

    A configuration that describes more than the tensors fill is refused while it is built, before memory is
    taken for it: a file of a few bytes can describe a network of any size.

    Args:
        make: builds the network from the file's configuration.
        tensors: by name, as in a state_dict.
        source: where they come from, for messages.

    Raises:
        ModelFileError: the network cannot be built, is larger than the tensors, or has others.
    """
    network = build_within(make, tensors.values(), source=source)
    load_state(network, tensors, source=source)
    return network


def build_within(make: Callable[[], N], tensors: Iterable[Tensor], *, source: str | Path) -> N:
    """`make()` with memory for about as many numbers as `tensors` hold; errors as `build_to_fit` says."""
    try:
        with _Budget(list(tensors)):
            return make()
    except ModelFileError:
        raise
    except _TooLargeError as error:
        raise ModelFileError(
            f"{source}: its configuration describes a larger network than its tensors fill ({error}): fetch "
            "or save the file again, or let a modulation of your own hold less that is not stored"
        ) from error
    except ValueError as error:  # an option that this version does not know
        raise ModelFileError(f"{source}: {error}") from error
    except (TypeError, ArithmeticError, LookupError, RuntimeError, MemoryError) as error:
        reason = str(error).strip().split("\n", 1)[0]
        raise ModelFileError(
            f"{source}: no network can be built from its configuration ({type(error).__name__}: {reason})"
        ) from error


class _TooLargeError(Exception):
    """The budget is spent."""


class _Budget(TorchFunctionMode):
    """Counts the tensors that are made within by `_FACTORIES`, each before memory is taken for it."""

    def __init__(self, tensors: list[Tensor]) -> None:
        super().__init__()
        self._held = f"{len(tensors)} tensors of {sum(x.numel() for x in tensors)} numbers"
        self._numbers = _NUMBERS * sum(x.numel() for x in tensors) + _SPARE_NUMBERS
        self._calls = _CALLS * len(tensors) + _SPARE_CALLS

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func in _FACTORIES:
            shape_only = {k: v for k, v in kwargs.items() if k not in ("generator", "out")}
            self._numbers -= func(*args, **shape_only | {"device": "meta"}).numel()
            self._calls -= 1
            if min(self._numbers, self._calls) < 0:
                raise _TooLargeError(self._held)
        return func(*args, **kwargs)
