"""Steps with non-finite losses or gradients: counted, reported, left out, after some in a row an error."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ganmod import distributed


class NonFiniteError(RuntimeError):
    """Losses or gradients were not finite for too many steps in a row."""


class NonFiniteGuard:
    """Decides, alike on every process, whether a step is taken; counts those that are not."""

    def __init__(self, log: Callable[[str], None], *, limit: int) -> None:
        """limit: steps of one kind in a row after which NonFiniteError is raised."""
        self.log, self.limit = log, limit
        self.total = 0
        self.in_a_row: dict[str, int] = {}

    def check(self, norm: Tensor, losses: Mapping[str, Tensor], nimg: int, *, kind: str) -> bool:
        """Whether the gradient's norm and the losses by name, all averaged over processes, are finite.

        kind: which optimizer step, in the message and for counting. Raises NonFiniteError after `limit`.
        """
        terms = [name for name, loss in losses.items() if not bool(torch.isfinite(loss).all())]
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

    def step(
        self,
        optimizer: torch.optim.Optimizer | Sequence[torch.optim.Optimizer],
        parameters: Sequence[nn.Parameter],
        losses: Mapping[str, Tensor],
        nimg: int,
        *,
        kind: str,
        clip_norm: float | None = None,
    ) -> bool:
        """Average the gradients and the losses over processes and, if all are finite, step: True.

        clip_norm: the gradient's norm is brought down to it.
        """
        distributed.average_gradients(parameters)
        norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        averaged = {name: distributed.average(loss.clone()) for name, loss in losses.items()}
        taken = self.check(norm, averaged, nimg, kind=kind)
        if taken:
            if clip_norm is not None:
                torch.nn.utils.clip_grads_with_norm_(parameters, clip_norm, norm)
            for one in [optimizer] if isinstance(optimizer, torch.optim.Optimizer) else optimizer:
                one.step()
        return taken

    def state_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {"total": self.total, "in_a_row": dict(self.in_a_row)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict`."""
        self.total, self.in_a_row = state["total"], dict(state["in_a_row"])
