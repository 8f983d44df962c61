"""Muon: momentum whose matrix is made orthogonal before each step (Jordan et al. 2024), for convolutions."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the quintic iteration; Jordan's, as in torch.optim.Muon
_ITERATIONS = 5


def orthogonalized(matrix: Tensor) -> Tensor:
    """The nearest semi-orthogonal matrix U V^T of matrix = U S V^T, roughly.

    Singular values end in 0.7 to 1.2.

    matrix [M,N] -> [M,N]. Newton-Schulz iteration in the matrix's own precision, on its smaller side.
    """
    a, b, c = _COEFFICIENTS
    x = matrix / (matrix.norm() + 1e-7)
    wide = x if x.shape[0] <= x.shape[1] else x.T
    for _ in range(_ITERATIONS):
        gram = wide @ wide.T
        wide = a * wide + (b * gram + c * gram @ gram) @ wide
    return wide if x.shape[0] <= x.shape[1] else wide.T


class Muon(torch.optim.Optimizer):
    """Steps of one root mean square, whatever the gradient's: weight -= lr * sqrt(max(M, N)) * orthogonal.

    Weights [O,C,K,K] are taken as matrices [O, C*K*K]. The root mean square of a step's entries is lr, so
    that with equalised learning rates, whose weights have a deviation of 1, lr is the relative change a step.
    Differs from torch.optim.Muon, which takes matrices only, works in bfloat16 and has the step's size
    relative to other conventions of the weights.
    """

    def __init__(
        self, params: Iterable[Tensor], lr: float, *, momentum: float = 0.95, nesterov: bool = True
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "nesterov": nesterov})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One step; parameters without a gradient stay."""
        if closure is not None:
            raise ValueError("Muon takes no closure: compute gradients first, then step()")
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if not state:
                    state["momentum_buffer"] = torch.zeros_like(p)
                buffer = state["momentum_buffer"]
                buffer.lerp_(p.grad, 1 - group["momentum"])
                update = p.grad.lerp(buffer, group["momentum"]) if group["nesterov"] else buffer
                matrix = update.flatten(1)
                size = max(matrix.shape) ** 0.5
                p.add_(orthogonalized(matrix).view(p.shape), alpha=-group["lr"] * size)
