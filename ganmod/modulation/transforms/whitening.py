"""Powers of covariances: whitening and colouring of features (ZCA)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ganmod.layers import widen, without_autocast
from ganmod.modulation.base import Modulation


class Moments(NamedTuple):
    """Of the pixels of features [N,C,H,W], in float32 or wider.

    Attributes:
        centered: the features without their mean, [N,C,P].
        mean: [N,C,1].
        covariance: of the channels, unbiased, [N,C,C].
    """

    centered: Tensor
    mean: Tensor
    covariance: Tensor


def moments(x: Tensor) -> Moments:
    """Mean and covariance of features [N,C,H,W]; ValueError for a single pixel, which has no covariance."""
    x = widen(x.flatten(2))
    num_pixels = x.shape[2]
    if num_pixels < 2:
        raise ValueError("features of one pixel have no covariance: use a larger image")
    with without_autocast(x.device):
        mean = x.mean(dim=2, keepdim=True)
        centered = x - mean
        return Moments(centered, mean, centered @ centered.transpose(1, 2) / (num_pixels - 1))


def matrix_powers(covariance: Tensor, *exponents: float, least: float) -> list[Tensor]:
    """E D^exponent E^T of symmetric matrices [N,C,C] for each exponent, on eigenvalues above `least` alone.

    Computed in float64 where the device has it, as covariances of few pixels have many eigenvalues near 0.

    least: a share of the largest eigenvalue, which counts as 1 at least (features have an RMS near 1).
        Directions below it carry rounding errors, which a negative exponent would blow up; they become 0.
    """
    wide = covariance if covariance.device.type == "mps" else covariance.double()
    values, vectors = torch.linalg.eigh(wide)
    kept = values > least * values[:, -1:].clamp_min(1.0)
    values = torch.where(kept, values, 1.0)
    return [
        ((vectors * (values.pow(exponent) * kept)[:, None]) @ vectors.transpose(1, 2)).to(covariance.dtype)
        for exponent in exponents
    ]


def no_export(transform: Modulation) -> ValueError:
    """What is raised where a transform is to be exported."""
    return ValueError(
        f"{type(transform).__name__} has no form that files for other programs can hold: export a model with "
        "adaconv, adain, weight_demod, din or match_moments"
    )


def whiten(x: Tensor, *, least: float) -> Tensor:
    """Features [N,C,H,W] with mean 0 and the identity as covariance, on the subspace that they fill."""
    with without_autocast(x.device):
        centered, _, covariance = moments(x)
        (inverse,) = matrix_powers(covariance, -0.5, least=least)
        return (inverse @ centered).unflatten(2, x.shape[2:])


def color(whitened: Tensor, root: Tensor, mean: Tensor) -> Tensor:
    """White features [N,C,H,W] -> those of mean [N,C,1] and covariance root @ root, root [N,C,C]."""
    with without_autocast(whitened.device):
        colored = root.to(whitened.dtype) @ whitened.flatten(2) + mean.to(whitened.dtype)
        return colored.unflatten(2, whitened.shape[2:])
