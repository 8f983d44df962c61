"""If this fails, a figure depends on the other feature spaces of the same measurement."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from metrics.features.base import CallableSpace
from metrics.image_sets.features import measure_set
from metrics.image_sets.joined_spaces import JoinedSpaces


def means(images: Tensor) -> Tensor:
    return images.float().mean(dim=(2, 3)) / 255


def extremes(images: Tensor) -> Tensor:
    x = images.float() / 255
    return torch.cat([x.amax(dim=(2, 3)), x.amin(dim=(2, 3)), x.std(dim=(2, 3))], dim=1)


def test_parts_of_the_joined_space_are_the_spaces_alone():
    spaces = [CallableSpace("m", means, device="cpu"), CallableSpace("e", extremes, device="cpu")]
    images = torch.randint(0, 256, (30, 3, 6, 6), generator=torch.Generator().manual_seed(1)).byte()

    def load(indices: Tensor) -> list[Tensor]:
        return list(images[indices])

    joined = JoinedSpaces(spaces)
    assert (joined.dim, joined.name) == (12, "m+e")
    parts = joined.split(measure_set(load, 30, joined, keep=True, batch_size=7))
    for space, part in zip(spaces, parts, strict=True):
        alone = measure_set(load, 30, space, keep=True, batch_size=7)
        assert part.gaussian.mean == pytest.approx(alone.gaussian.mean, abs=1e-12)
        assert part.gaussian.covariance == pytest.approx(alone.gaussian.covariance, abs=1e-12)
        assert torch.equal(part.features, alone.features)
        assert part.count == 30
    with pytest.raises(ValueError, match="0 spaces"):
        JoinedSpaces([])
