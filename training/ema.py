"""Exponential moving average of a model's trainable parameters, counted in images."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn


def ema_decay(batch_size: int, nimg: int, *, half_life_kimg: float, rampup: float | None) -> float:
    """Weight of the old average at one step: 0.5^(batch / half-life), the half-life at most rampup * nimg.

    nimg: images before the step, so that with a ramp-up the first average is the first weights (Karras et al.
    2020).
    """
    half_life_nimg = half_life_kimg * 1000
    if rampup is not None:
        half_life_nimg = min(half_life_nimg, nimg * rampup)
    return 0.5 ** (batch_size / max(half_life_nimg, 1e-8))


@torch.no_grad()
def update_ema(average: Mapping[str, Tensor], parameters: Mapping[str, nn.Parameter], decay: float) -> None:
    """average <- decay * average + (1 - decay) * parameters, in place."""
    torch._foreach_lerp_(list(average.values()), [p.detach() for p in parameters.values()], 1 - decay)


@torch.no_grad()
def copy_buffers(average: nn.Module, module: nn.Module) -> None:
    """Set the buffers of an averaged network, which are not averaged, to those of the trained one."""
    for target, source in zip(average.buffers(), module.buffers(), strict=True):
        target.copy_(source)
