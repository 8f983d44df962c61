"""If this fails, style-transfer runs are measured on other pairs, sizes or images than stated."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_images import folder_of, picture

from ganmod.io.images import center_crop, resize_short_side
from metrics.image_sets.stylized import CroppedImages, StylizedImages, draw_pairs


class Tint:
    """A model that pulls every pixel half-way to the style's mean colour."""

    def __init__(self) -> None:
        self.num_predicted = 0

    def predict_style(self, style: np.ndarray) -> Any:
        self.num_predicted += 1
        return style.mean(axis=(0, 1))

    def apply_params(self, content: np.ndarray, params: Any) -> np.ndarray:
        return ((content + params) / 2).round().astype(np.uint8)


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    folder_of(tmp_path / "contents", ["0.png", "1.png", "2.png"], height=20, width=30)
    folder_of(tmp_path / "a", ["0.png", "1.png"], height=40, width=24)
    folder_of(tmp_path / "b", ["0.png"])
    return tmp_path


def test_images_of_several_folders_are_brought_to_one_size(folders: Path):
    styles = CroppedImages([folders / "a", folders / "b"], size=16)
    found = styles.load(torch.arange(3))
    sources = [picture(0, 40, 24), picture(1, 40, 24), picture(0)]
    for image, source in zip(found, sources, strict=True):
        expected = center_crop(resize_short_side(source, 16), 16)
        assert np.array_equal(image.permute(1, 2, 0).numpy(), expected)
    other = CroppedImages([folders / "a", folders / "b"], size=17)
    swapped = CroppedImages([folders / "b", folders / "a"], size=16)
    hashes = [images.content_hash() for images in (styles, styles, other, swapped)]
    assert hashes[0] == hashes[1]
    assert len(set(hashes)) == 3
    assert styles.conditions()["num_files"] == 3
    with pytest.raises(ValueError, match="3 images, but 4 are needed"):
        CroppedImages([folders / "a", folders / "b"], size=16, at_least=4)


def test_image_i_is_pair_i_and_a_style_is_predicted_once(folders: Path):
    contents, styles = (CroppedImages([folders / name], size=16) for name in ("contents", "a"))
    model, pairs = Tint(), [(0, 0), (2, 0), (1, 1)]
    stylized = StylizedImages(model, contents, styles, pairs)
    found = stylized.load(torch.arange(3))
    assert model.num_predicted == 2
    for image, (c, s) in zip(found, pairs, strict=True):
        content, style = (x.load(torch.tensor([i]))[0] for x, i in ((contents, c), (styles, s)))
        expected = ((content + style.double().mean(dim=(1, 2))[:, None, None]) / 2).round()
        assert torch.equal(image.double(), expected)
    assert torch.equal(stylized.load(torch.tensor([1]))[0], found[1])
    (folders / "contents" / "2.png").write_bytes(b"no image")
    contents = CroppedImages([folders / "contents"], size=16)
    stylized = StylizedImages(model, contents, styles, pairs)
    with pytest.warns(UserWarning, match="skipped"):
        assert stylized.load(torch.tensor([1])) == [None]
    with warnings.catch_warnings(action="error"):  # reported and counted only once
        assert stylized.load(torch.tensor([1] * 50)) == [None] * 50


def test_draws_are_disjoint_sets_of_pairs_in_order_of_style():
    sets = draw_pairs(5, 7, 10, draws=3, seed=1)
    assert [len(set(one)) for one in sets] == [10, 10, 10]
    assert len({pair for one in sets for pair in one}) == 30
    assert all([s for _, s in one] == sorted(s for _, s in one) for one in sets)
    assert all(0 <= c < 5 and 0 <= s < 7 for one in sets for c, s in one)
    assert sets == draw_pairs(5, 7, 10, draws=3, seed=1) != draw_pairs(5, 7, 10, draws=3, seed=2)
    with pytest.raises(ValueError, match="35 pairs, fewer than 3 draws of 12: give more images, or --num 11"):
        draw_pairs(5, 7, 12, draws=3, seed=0)
