"""The spectrum loss: compares the power of every frequency and direction in image and style."""

from __future__ import annotations

import functools
import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ganmod.layers import widen

WINDOW, STRIDE = 16, 4  # pixels
FLOOR = (1 / 255) ** 2  # power below one level of an 8-bit image
# Brightness, red against green, yellow against blue; orthonormal.
OPPONENT = ((3**-0.5,) * 3, (2**-0.5, -(2**-0.5), 0.0), (6**-0.5, 6**-0.5, -2 * 6**-0.5))


@functools.cache
def _waves() -> Tensor:
    """Hann window times cosine and sine of every frequency but 0: [2F, WINDOW * WINDOW].

    For white noise of power 1, cosine^2 + sine^2 is 1 on average.
    """
    position = torch.arange(WINDOW, dtype=torch.float64)
    hann = 0.5 - 0.5 * torch.cos(2 * math.pi * (position + 0.5) / WINDOW)
    window = hann[:, None] * hann
    half = WINDOW // 2
    frequencies = [
        (u, v)
        for v in range(half + 1)
        for u in range(-half + 1, half + 1)
        if (u, v) != (0, 0) and not (v in (0, half) and u < 0)  # the others mirror these
    ]
    u, v = (torch.tensor(f, dtype=torch.float64)[:, None, None] for f in zip(*frequencies, strict=True))
    phase = 2 * math.pi / WINDOW * (u * position[:, None] + v * position)
    waves = torch.cat([window * torch.cos(phase), window * torch.sin(phase)]).flatten(1)
    waves = waves - waves.mean(dim=1, keepdim=True) * (window / window.mean()).flatten()  # blind to the mean
    return (waves / window.square().sum().sqrt()).float()


def welch_spectrum(images: Tensor) -> Tensor:
    """Mean power of every frequency in overlapping windows (Welch 1967), in three opponent colours.

    Images [N,3,H,W], sides of at least 16 pixels -> [N,3,F]. The power of white noise is its variance.
    """
    mix = images.new_tensor(OPPONENT)
    with torch.autocast(images.device.type, enabled=False):
        wide = widen(images)
        colors = torch.einsum("oc,nchw->nohw", mix.to(wide.dtype), wide)
        patches = F.unfold(colors.flatten(0, 1)[:, None], WINDOW, stride=STRIDE)  # [3N,256,L]
        responses = _waves().to(patches) @ patches
        cosine, sine = responses.chunk(2, dim=1)
        return (cosine.square() + sine.square()).mean(dim=2).unflatten(0, (len(images), 3))


def spectrum_loss(images: Tensor, style: Tensor) -> Tensor:
    """Squared difference of the logarithms of amplitudes, averaged over frequencies and colours -> [N].

    Statistics of a feature network hardly see the finest lines: a decoder can draw a lattice of two pixels at
    no cost. Here they count like any others. After the spectrum constraint of Liu, Gousseau & Xia 2016, but
    with local spectra, which leave the arrangement free.

    Args:
        images: [N,3,H,W] in [0,1].
        style: likewise; its size may differ.
    """
    log_images, log_style = (0.5 * torch.log(welch_spectrum(x) + FLOOR) for x in (images, style))
    return (log_images - log_style).square().mean(dim=(1, 2))
