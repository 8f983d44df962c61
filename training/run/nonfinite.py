"""Steps with non-finite losses or gradients: counted, reported, left out, after some in a row an error."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ganmod import distributed
from ganmod.errors import GanmodError


class NonFiniteError(GanmodError, RuntimeError):
    """Losses or gradients were not finite for too many steps in a row."""


def gradient_norm(parameters: Iterable[nn.Parameter]) -> Tensor:
    """Of all gradients together; those that are None count as 0."""
    return torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])


class NonFiniteGuard:
    """Decides, alike on every process, whether a step is taken; counts those that are not."""

    def __init__(self, log: Callable[[str], None], *, limit: int) -> None:
        """limit: steps of one kind in a row after which NonFiniteError is raised."""
        self.log, self.limit = log, limit
        self.total = 0
        self.in_a_row: dict[str, int] = {}

    def finite(self, norm: Tensor, losses: Mapping[str, Tensor], nimg: int, *, kind: str) -> bool:
        """Whether the averaged gradient's norm, and the losses by name once averaged, are finite.

        kind: which optimizer step, in the message and for counting. Raises NonFiniteError after `limit`.
        """
        averaged = {name: distributed.average(loss.clone()) for name, loss in losses.items()}
        terms = [name for name, loss in averaged.items() if not bool(torch.isfinite(loss).all())]
        if bool(torch.isfinite(norm)) and not terms:
            self.in_a_row[kind] = 0
            return True
        self.total += 1
        self.in_a_row[kind] = count = self.in_a_row.get(kind, 0) + 1
        what = f"loss {', '.join(terms)}" if terms else f"gradient norm ({norm.item()}) of {kind}"
        self.log(f"non-finite {what} at {nimg} images ({count} in a row): step left out")
        if count >= self.limit:
            raise NonFiniteError(
                f"non-finite {what} for {count} steps in a row at {nimg} images. The last checkpoint is "
                "intact: lower the learning rate, or set runtime.precision to float32, and run again"
            )
        return False

    def state_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {"total": self.total, "in_a_row": dict(self.in_a_row)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict`."""
        self.total, self.in_a_row = state["total"], dict(state["in_a_row"])
