"""The mapping network: latent z and class label c to the intermediate latents ws."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn

from ganmod.layers import LRELU_SLOPE, EqualizedLinear, ScaledReLU

LRELU_GAIN = 2**0.5  # as published; sqrt(2 / 1.04) would keep the second moment exactly


def normalize_2nd_moment(x: Tensor, *, eps: float = 1e-8) -> Tensor:
    """x [N,D] / sqrt(mean_D(x^2) + eps) -> [N,D] (Karras et al. 2018, Eq. 2)."""
    return x * (x.square().mean(dim=1, keepdim=True) + eps).rsqrt()


def truncate(ws: Tensor, w_avg: Tensor, *, psi: float, cutoff: int | None = None) -> Tensor:
    """w_avg + psi * (ws - w_avg) for the first `cutoff` ws, None for all (Karras et al. 2019, appendix B).

    ws [N,num_ws,w_dim], w_avg [w_dim] -> [N,num_ws,w_dim].
    """
    if psi == 1:
        return ws
    truncated = w_avg.lerp(ws[:, :cutoff], psi)
    return truncated if cutoff is None else torch.cat([truncated, ws[:, cutoff:]], dim=1)


class MappingNetwork(nn.Module):
    """z [N,z_dim], c [N,c_dim] -> ws [N,num_ws,w_dim], or w [N,w_dim] where num_ws is None.

    Fully connected layers with a leaky ReLU after each, in float32 or wider. The label is embedded linearly
    and joined to z, both normalised.

    Args:
        lr_mul: learning rate of the layers as a multiple of the others'.
        w_avg_beta: decay of the mean w per update, None for a network without one.
    """

    w_avg: Tensor

    def __init__(
        self,
        z_dim: int,
        c_dim: int,
        w_dim: int,
        *,
        num_ws: int | None,
        num_layers: int = 8,
        lr_mul: float = 0.01,
        w_avg_beta: float | None = 0.995,
    ) -> None:
        super().__init__()
        if z_dim + c_dim == 0:
            raise ValueError("z_dim and c_dim are both 0, so nothing could be mapped: make one positive")
        self.z_dim, self.c_dim, self.w_dim, self.num_ws = z_dim, c_dim, w_dim, num_ws
        self.w_avg_beta = w_avg_beta
        self.embed = EqualizedLinear(c_dim, w_dim) if c_dim else None
        first = z_dim + (w_dim if c_dim else 0)
        widths = itertools.chain([first], itertools.repeat(w_dim, num_layers))
        self.layers = nn.ModuleList(
            EqualizedLinear(i, o, lr_mul=lr_mul) for i, o in itertools.pairwise(widths)
        )
        self.activation = ScaledReLU(LRELU_SLOPE, gain=LRELU_GAIN)
        if w_avg_beta is not None:
            self.register_buffer("w_avg", torch.zeros(w_dim))

    def forward(
        self,
        z: Tensor | None,
        c: Tensor | None = None,
        *,
        truncation_psi: float = 1.0,
        truncation_cutoff: int | None = None,
    ) -> Tensor:
        """Map z and c to ws; raises ValueError for shapes that do not fit.

        Args:
            c: one-hot, or any weights of the classes.
            truncation_psi: 1 leaves w unchanged, 0 gives the mean.
            truncation_cutoff: how many of the ws are truncated, None for all.
        """
        if truncation_psi != 1 and (self.w_avg_beta is None or self.num_ws is None):
            raise ValueError("this mapping network keeps no mean w: truncation_psi must be 1")
        device = next(self.parameters()).device
        with torch.autocast(device.type, enabled=False):
            x = self._inputs(z, c)
            for layer in self.layers:
                x = self.activation(layer(x))  # [N,w_dim]
        if self.num_ws is None:
            return x
        ws = x[:, None].expand(-1, self.num_ws, -1)  # [N,num_ws,w_dim]
        if truncation_psi == 1:
            return ws
        return truncate(ws, self.w_avg, psi=truncation_psi, cutoff=truncation_cutoff)

    @torch.no_grad()
    def update_w_avg(self, w: Tensor) -> None:
        """w_avg <- beta * w_avg + (1 - beta) * mean(w), w [N,w_dim]. Not called by `forward`."""
        if self.w_avg_beta is None:
            raise ValueError("this mapping network keeps no mean w: build it with w_avg_beta")
        self.w_avg.lerp_(w.detach().mean(dim=0).to(self.w_avg.dtype), 1 - self.w_avg_beta)

    def _inputs(self, z: Tensor | None, c: Tensor | None) -> Tensor:
        dtype = next(self.parameters()).dtype
        parts = []
        if self.z_dim:
            if z is None or z.ndim != 2 or z.shape[1] != self.z_dim:
                got = "missing" if z is None else f"of shape {list(z.shape)}"
                raise ValueError(f"z is {got}, expected [N, {self.z_dim}]")
            parts.append(normalize_2nd_moment(z.to(dtype)))
        if self.embed is not None:
            if c is None or c.ndim != 2 or c.shape[1] != self.c_dim or (parts and len(c) != len(parts[0])):
                count = "N" if z is None or not self.z_dim else str(len(z))
                got = "missing" if c is None else f"of shape {list(c.shape)}"
                raise ValueError(
                    f"c is {got}, expected [{count}, {self.c_dim}] for this conditional network: "
                    f"one-hot labels, such as F.one_hot(classes, {self.c_dim})"
                )
            parts.append(normalize_2nd_moment(self.embed(c.to(dtype))))
        elif c is not None and c.numel():
            raise ValueError(f"c has shape {list(c.shape)}, but this network is unconditional: give c=None")
        return torch.cat(parts, dim=1)
