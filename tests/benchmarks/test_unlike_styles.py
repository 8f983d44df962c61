"""If this fails, the styles outside the training differ from those of the published figures."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from unlike_styles import DRAWN, SIDE, draw_unlike


@pytest.mark.parametrize("name", ["night", "letters", "pencil", "flat_shapes"])
def test_a_style_is_what_its_name_says_and_always_the_same(name: str) -> None:
    style = draw_unlike(name)
    assert style.shape == (SIDE, SIDE, 3)
    assert np.array_equal(style, draw_unlike(name))
    luma, chroma = style.mean(axis=2), np.ptp(style.astype(int), axis=2)
    if name == "night":
        assert luma.mean() < 20
        assert luma.max() > 60
    elif name == "flat_shapes":
        assert chroma.mean() > 120
        assert (np.abs(np.diff(luma, axis=1)) < 1).mean() > 0.8
    else:
        assert chroma.max() == 0
        light = (luma > 200).mean()
        assert 0.5 < light < 0.9 if name == "letters" else 0.25 < light < 0.75


def test_there_are_ten() -> None:
    assert len(DRAWN) == 10
