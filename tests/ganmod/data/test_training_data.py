"""If this fails, what a run sees depends on worker or process counts, or one bad file ends it silently."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from ganmod.data.crops import CropStream, Pairs
from ganmod.io.images import ImageError, write_image
from training.loader import StepSampler, step_loader


def flat_images(count: int, height: int = 40, width: int = 48) -> list[np.ndarray]:
    """Image i is one colour, 10 * i, so that a crop says which image it came from."""
    return [np.full((height, width, 3), 10 * i, dtype=np.uint8) for i in range(count)]


def stream(images: list, **changes: object) -> CropStream:
    options: dict = {"purpose": "content", "crop": 16, "short_side": 32, "seed": 3, **changes}
    return CropStream(images, **options)


def test_every_pass_shows_every_image_once_in_another_order() -> None:
    crops = stream(flat_images(7))
    passes = [[int(crops[epoch * 7 + i][0, 0, 0]) // 10 for i in range(7)] for epoch in range(3)]
    assert [sorted(p) for p in passes] == [list(range(7))] * 3
    assert len({tuple(p) for p in passes}) == 3


def test_item_depends_on_seed_and_position_alone() -> None:
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 255, (40, 48, 3), dtype=np.uint8) for _ in range(5)]
    forwards = [stream(images)[i] for i in range(9)]
    crops = stream(images)
    for i in reversed(range(9)):
        assert torch.equal(crops[i], forwards[i])
    assert any(not torch.equal(a, stream(images, seed=4)[i]) for i, a in enumerate(forwards))
    assert any(not torch.equal(a, stream(images, purpose="style")[i]) for i, a in enumerate(forwards))


def test_an_image_too_large_for_the_cache_leaves_room_for_smaller_ones(tmp_path: Path) -> None:
    sizes = ((800, 1400), (600, 800), (40, 48))  # 3.4 MB, 1.4 MB, 6 KB
    for i, (height, width) in enumerate(sizes):
        write_image(tmp_path / f"{i}.png", np.zeros((height, width, 3), dtype=np.uint8))
    crops = stream([tmp_path / f"{i}.png" for i in range(3)], short_side=2000, cache_mb=2)
    for i in range(3):
        crops.full_image(i)
    assert sorted(crops.decoded.cached) == [1, 2]


def test_workers_are_not_sent_the_decoded_images() -> None:
    crops = stream(flat_images(5))
    first = crops[3]
    assert crops.decoded.cached
    sent = pickle.loads(pickle.dumps(crops))
    assert sent.decoded.cached == {}
    assert torch.equal(sent[3], first)


def test_crops_lie_inside_the_image_and_are_flipped_half_the_time() -> None:
    ramp = np.tile(np.arange(100, dtype=np.uint8)[None, :, None] * 2, (64, 1, 3))
    crops = stream([ramp], short_side=64)
    rising = [bool((crops[i][0, 0].int().diff() > 0).any()) for i in range(200)]
    assert 70 < sum(rising) < 130
    upright = stream([ramp], short_side=64, flip=False)
    assert not any(bool((upright[i][0, 0].int().diff() < 0).any()) for i in range(50))
    assert crops[0].shape == (3, 16, 16)
    assert crops[0].dtype == torch.uint8


@pytest.mark.parametrize("num_workers", [0, 2])
def test_processes_share_a_step_and_workers_do_not_matter(num_workers: int) -> None:
    data = Pairs(stream(flat_images(6)), stream(flat_images(6), purpose="style"))
    whole = iter(step_loader(data, StepSampler(batch_size=4, nimg=8), num_workers=0))
    samplers = [StepSampler(batch_size=4, nimg=8, rank=r, world_size=2) for r in range(2)]
    shares = [iter(step_loader(data, sampler, num_workers=num_workers)) for sampler in samplers]
    for _ in range(2):
        content, style = next(whole)
        parts = [next(share) for share in shares]
        assert torch.equal(torch.cat([p[0] for p in parts]), content)
        assert torch.equal(torch.cat([p[1] for p in parts]), style)


def test_corrupt_file_is_named_and_replaced_by_the_next(tmp_path: Path) -> None:
    files = [tmp_path / f"{i}.png" for i in range(4)]
    for i, file in enumerate(files):
        write_image(file, np.full((32, 32, 3), 10 * i, dtype=np.uint8))
    files[2].write_bytes(b"not an image")
    crops = stream(files)
    with pytest.warns(UserWarning, match=r"2\.png"):
        seen = [int(crops[i][0, 0, 0]) // 10 for i in range(4)]
    assert sorted(set(seen)) == [0, 1, 3]


def test_too_many_corrupt_files_are_an_error(tmp_path: Path) -> None:
    files = [tmp_path / f"{i}.png" for i in range(30)]
    for file in files:
        file.write_bytes(b"not an image")
    expected = (
        (files, "more than 20 corrupt images in the content images"),
        (files[:3], "none of the 3 content images"),
    )
    for some, message in expected:
        with pytest.warns(UserWarning, match="skipped"), pytest.raises(ImageError, match=message):
            stream(some)[0]


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="no content images"):
        stream([])
    with pytest.raises(ValueError, match="short_side is 8, smaller than the crop of 16"):
        stream(flat_images(1), short_side=8)
