"""Count repeated images and sum power spectra while images pass by on their way to a feature space."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ganmod.process_shares import ONE_PROCESS, Processes
from metrics.images.spectrum import SpectrumSum, band_powers


class ImageWatch:
    """Records hashes and power spectra of images 0..num_images-1, each seen once, in any order."""

    def __init__(self, num_images: int) -> None:
        self._hashes = torch.zeros(num_images, dtype=torch.int64)
        self._sums: dict[tuple[int, ...], SpectrumSum] = {}

    def wrap(
        self, load: Callable[[Tensor], Sequence[Tensor | None]], *, first: int = 0
    ) -> Callable[[Tensor], Sequence[Tensor | None]]:
        """A `load` function for `measure_set` that also records its images; its image 0 has index `first`."""

        def load_and_see(indices: Tensor) -> Sequence[Tensor | None]:
            images = load(indices)
            for index, image in zip(indices.tolist(), images, strict=True):
                if image is not None:
                    self.see(first + index, image)
            return images

        return load_and_see

    def see(self, index: int, image: Tensor) -> None:
        """Record one image, uint8 RGB [3,H,W]."""
        pixels = image.cpu().contiguous()
        digest = hashlib.sha256(f"{list(pixels.shape)}".encode() + pixels.numpy().tobytes()).digest()
        self._hashes[index] = int.from_bytes(digest[:7], "little") + 1  # 0: an image that could not be read
        size = tuple(pixels.shape[1:])
        self._sums.setdefault(size, SpectrumSum()).update(pixels[None])

    def num_repeated(self, processes: Processes = ONE_PROCESS) -> int:
        """Number of images that equal an earlier one, over all processes; all of them must call this."""
        hashes = processes.total(self._hashes)
        seen = hashes[hashes != 0]
        return len(seen) - len(seen.unique())

    def band_powers(self, size: tuple[int, int], processes: Processes = ONE_PROCESS) -> dict[str, float]:
        """`spectrum.band_powers` of the images of height and width `size`, over all processes.

        Raises ValueError if there was none.
        """
        return band_powers(self._sums.get(size, SpectrumSum()).mean(size, processes))
