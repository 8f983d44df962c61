"""If this fails, a collapsed generator or stuck seeds pass unseen, or spectra depend on the batches."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ganmod.process_shares import Processes
from metrics.images.image_watch import ImageWatch
from metrics.images.spectrum import band_powers, power_spectrum


def images(count: int, side: int = 8) -> Tensor:
    return torch.randint(0, 256, (count, 3, side, side), generator=torch.Generator().manual_seed(0)).byte()


def test_repeats_are_counted_over_all_draws_and_unreadable_images_are_none():
    found = images(5)
    found[3] = found[1]
    watch = ImageWatch(10)
    load = watch.wrap(lambda i: [found[j] for j in i.tolist()])
    again = watch.wrap(lambda i: [None if j == 0 else found[j] for j in i.tolist()], first=5)
    for part in torch.arange(5).split(2):
        assert all(torch.equal(x, found[j]) for x, j in zip(load(part), part.tolist(), strict=True))
    assert watch.num_repeated() == 1
    again(torch.arange(5))  # the same seeds again: 4 images that were there, one of them twice
    assert watch.num_repeated() == 5


def test_equal_bytes_of_another_shape_are_other_images():
    watch = ImageWatch(2)
    watch.see(0, torch.zeros(3, 2, 4, dtype=torch.uint8))
    watch.see(1, torch.zeros(3, 4, 2, dtype=torch.uint8))
    assert watch.num_repeated() == 0


def test_bands_equal_those_of_all_images_at_once_over_any_number_of_processes():
    found = images(6, side=16)
    expected = band_powers(power_spectrum([found]))
    watches = [ImageWatch(6), ImageWatch(6)]
    for i in range(6):
        watches[i % 2].see(i, found[i])
    single = ImageWatch(7)
    for i in range(6):
        single.see(i, found[i])
    single.see(6, images(1, side=8)[0])  # of another size: in no sum with these
    assert single.band_powers((16, 16)) == pytest.approx(expected)

    # Simulates the sum over two processes: adds the other one's part.
    def total_with(other: ImageWatch):
        parts = {torch.int64: other._hashes}

        def total(local: Tensor) -> Tensor:
            if local.shape == (1,):
                return local + 3
            if local.ndim == 2:
                return local + other._sums[16, 16].total
            return local + parts[local.dtype]

        return Processes(0, 2, total)

    together = total_with(watches[1])
    assert watches[0].band_powers((16, 16), together) == pytest.approx(expected)
    assert watches[0].num_repeated(together) == 0
    with pytest.raises(ValueError, match="no images"):
        ImageWatch(1).band_powers((4, 4))
