"""Power spectrum of a set of images, which shows a checkerboard or a missing octave."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from ganmod.io.images import LUMA
from ganmod.process_shares import ONE_PROCESS, Processes

NYQUIST_BAND = 0.4  # cycles per pixel, of at most 0.5: patterns with a period of 2 to 2.5 pixels
LOW_BAND = 0.1  # cycles per pixel: along a stripe


class SpectrumSum:
    """Running sum of a `power_spectrum`, for images that arrive in batches."""

    def __init__(self) -> None:
        self.total: Tensor | None = None
        self.count = 0

    def update(self, images: Tensor) -> None:
        """Add uint8 RGB [N,3,H,W]; all images have one size."""
        grey = torch.einsum("nchw,c->nhw", images.double() / 255, torch.tensor(LUMA, dtype=torch.float64))
        grey = grey - grey.mean(dim=(1, 2), keepdim=True)
        power = torch.fft.fft2(grey, norm="ortho").abs().square().sum(dim=0)
        self.total = power if self.total is None else self.total + power
        self.count += len(images)

    def mean(self, size: tuple[int, int], processes: Processes = ONE_PROCESS) -> Tensor:
        """Mean [H,W] = size over the images of all processes; all call this. ValueError for no images."""
        local = torch.zeros(size, dtype=torch.float64) if self.total is None else self.total
        total, count = processes.total(local), int(processes.total(torch.tensor([self.count])))
        if not count:
            raise ValueError("got no images, expected one at least")
        return total / count


def power_spectrum(batches: Iterable[Tensor]) -> Tensor:
    """Mean over all images of |DFT of the luma|^2 / (H W), each image's mean subtracted first.

    Batches of uint8 RGB [N,3,H,W] -> float64 [H,W]; entry [u,v] is the power at u/H and v/W cycles per pixel
    down and across, in units of (grey levels / 255)^2. Raises ValueError for no images.
    """
    spectra = SpectrumSum()
    for images in batches:
        spectra.update(images)
    return spectra.mean((1, 1) if spectra.total is None else (spectra.total.shape[0], spectra.total.shape[1]))


def band_powers(spectrum: Tensor) -> dict[str, float]:
    """Mean power in three bands at the highest frequencies of a `power_spectrum` [H,W].

    - checkerboard: high frequencies both down and across.
    - stripes: high in one direction and nearly constant in the other, the grid of poor upsampling.
    - high: all frequencies above NYQUIST_BAND cycles per pixel.
    """
    down, across = (torch.fft.fftfreq(size).abs() for size in spectrum.shape)
    high_down, high_across = down[:, None] >= NYQUIST_BAND, across[None, :] >= NYQUIST_BAND
    flat_down, flat_across = down[:, None] <= LOW_BAND, across[None, :] <= LOW_BAND
    bands = {
        "checkerboard": high_down & high_across,
        "stripes": (high_down & flat_across) | (flat_down & high_across),
        "high": (down[:, None].square() + across[None, :].square()).sqrt() >= NYQUIST_BAND,
    }
    return {name: spectrum[mask].mean().item() for name, mask in bands.items()}
