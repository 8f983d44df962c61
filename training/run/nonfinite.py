"""Steps with non-finite losses or gradients: counted, reported, left out, after some in a row an error."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ganmod import distributed
from ganmod.errors import GanmodError
from ganmod.io.images import NaNImageError
from training.run.checkpoint import newest_checkpoint


class NonFiniteError(GanmodError, RuntimeError):
    """Losses or gradients were not finite for too many steps in a row, or a model is not."""


def gradient_norm(parameters: Iterable[nn.Parameter]) -> Tensor:
    """Of all gradients together; those that are None count as 0."""
    return torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])


class NonFiniteGuard:
    """Decides, alike on every process, whether a step is taken; counts those that are not."""

    def __init__(self, log: Callable[[str], None], *, limit: int, run_dir: Path, precision: str) -> None:
        """Nothing is counted yet.

        Args:
            log: receives a line for each step that is left out.
            limit: steps of one kind in a row after which NonFiniteError is raised.
            run_dir: of the checkpoints, for messages.
            precision: of the run, for messages.
        """
        self.log, self.limit, self.run_dir, self.precision = log, limit, run_dir, precision
        self.total = 0
        self.in_a_row: dict[str, int] = {}

    def finite(self, norm: Tensor, losses: Mapping[str, Tensor], nimg: int, *, kind: str) -> bool:
        """Whether the averaged gradient's norm, and the losses by name once averaged, are finite.

        kind: which optimizer step, in the message and for counting. Raises NonFiniteError after `limit`.
        """
        averaged = distributed.average(torch.stack([*losses.values()]))
        norm_finite = norm.isfinite()[None].to(averaged.device)  # on the CPU without any gradient
        *finite, all_finite = torch.cat([averaged.isfinite(), norm_finite]).tolist()
        terms = [name for name, is_finite in zip(losses, finite, strict=True) if not is_finite]
        if all_finite and not terms:
            self.in_a_row[kind] = 0
            return True
        self.total += 1
        self.in_a_row[kind] = count = self.in_a_row.get(kind, 0) + 1
        what = f"loss {', '.join(terms)}" if terms else f"gradient norm ({norm.item()}) of {kind}"
        self.log(f"non-finite {what} at {nimg} images ({count} in a row): step left out")
        if count >= self.limit:
            raise self._error(f"non-finite {what} for {count} steps in a row at {nimg} images")
        return False

    def check_weights(self, weights: Iterable[Tensor], nimg: int) -> None:
        """NonFiniteError unless all are finite: before a model or a checkpoint is written."""
        largest = torch.nn.utils.get_total_norm([w.detach() for w in weights], norm_type=math.inf)
        if not bool(torch.isfinite(largest)):
            raise self._error(f"the model's weights are not finite at {nimg} images; nothing was written")

    @contextlib.contextmanager
    def finite_pictures(self, nimg: int) -> Iterator[None]:
        """Raise NonFiniteError where the model's pictures hold NaN."""
        try:
            yield
        except NaNImageError as error:
            raise self._error(f"the model's pictures hold NaN at {nimg} images") from error

    def _error(self, what: str) -> NonFiniteError:
        newest = newest_checkpoint(self.run_dir)
        advice = "run the same command again with lower learning rates (keys of `optimizer`)"
        if self.precision != "float32":
            advice += ", or with runtime.precision float32"
        if newest is None:
            return NonFiniteError(f"{what}. There is no checkpoint yet: {advice}, which begins again")
        return NonFiniteError(
            f"{what}. {newest.name} is kept: {advice}, which goes on from there. If that fails at once, "
            "too, the weights were spoilt before: begin again with --no-resume"
        )

    def state_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {"total": self.total, "in_a_row": dict(self.in_a_row)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict`."""
        self.total, self.in_a_row = state["total"], dict(state["in_a_row"])
