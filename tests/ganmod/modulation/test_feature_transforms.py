"""If this fails, a feature transform is not the published one."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ganmod.modulation import Modulation, StyleSpec, create_modulation
from ganmod.modulation.statistics import mean_std
from ganmod.modulation.transforms.style_swap import nearest_patches, swap_patches
from ganmod.modulation.transforms.whitening import moments, whiten

CHANNELS = 5
TRANSFORMS = ("match_moments", "style_decorator", "style_swap", "wct")


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def make(name: str, **options: object) -> Modulation:
    return create_modulation(name, CHANNELS, StyleSpec("features", CHANNELS), options)


def correlated(*shape: int, seed: int = 0) -> Tensor:
    """Features whose channels depend on each other, with a mean."""
    x, mixture = draw(*shape, seed=seed), draw(shape[1], shape[1], seed=seed + 100)
    return torch.einsum("oc,nchw->nohw", mixture, x) + draw(shape[1], 1, 1, seed=seed + 200)


def unfolded(style: Tensor, size: int = 3) -> Tensor:
    """The patches of [C,h,w], [C*K*K,p]."""
    return torch.nn.functional.unfold(style[None], size)[0]


def covariance(x: Tensor) -> Tensor:
    """As numpy defines it, [N,C,C]."""
    return torch.stack([torch.cov(sample.flatten(1)) for sample in x])


def test_white_features_have_the_identity_as_covariance() -> None:
    white = whiten(correlated(2, CHANNELS, 6, 7), least=1e-9)
    torch.testing.assert_close(covariance(white), torch.eye(CHANNELS).double().expand(2, -1, -1))
    torch.testing.assert_close(white.mean(dim=(2, 3)), torch.zeros(2, CHANNELS).double())


def test_small_eigenvalues_are_dropped() -> None:
    """Of features in a plane, white ones fill that plane alone."""
    flat = torch.einsum("oc,nchw->nohw", draw(CHANNELS, 2, seed=3), draw(1, 2, 6, 7))
    values = torch.linalg.eigvalsh(covariance(whiten(flat, least=1e-9)))
    torch.testing.assert_close(values, torch.tensor([[0.0, 0, 0, 1, 1]]).double(), atol=1e-6, rtol=0)


def test_features_without_variance_become_the_styles_mean() -> None:
    """As those of a white page; in float32, where their covariance is rounding errors."""
    flat, style = draw(CHANNELS, 1, 1).float().expand(1, -1, 6, 7), correlated(1, CHANNELS, 8, 5).float()
    wct = make("wct")
    expected = style.mean(dim=(2, 3), keepdim=True).expand(-1, -1, 6, 7)
    torch.testing.assert_close(wct.modulate(flat, wct.predict(style)), expected, rtol=1e-5, atol=1e-5)
    assert bool(wct.modulate(style, wct.predict(flat)).isfinite().all())


def test_wct_gives_a_style_its_mean_and_covariance() -> None:
    content, style = correlated(2, CHANNELS, 6, 7), correlated(2, CHANNELS, 8, 5, seed=1)
    wct = make("wct", least_eigenvalue=1e-9)
    out = wct.modulate(content, wct.predict(style))
    torch.testing.assert_close(out.mean(dim=(2, 3)), style.mean(dim=(2, 3)))
    torch.testing.assert_close(covariance(out), covariance(style))


def test_wct_is_the_published_formula() -> None:
    """E_s D_s^1/2 E_s^T E_c D_c^-1/2 E_c^T (f_c - m_c) + m_s, by singular values as the authors' code."""
    content, style = correlated(1, CHANNELS, 6, 7), correlated(1, CHANNELS, 8, 5, seed=1)
    (_, _, cov_c), (_, _, cov_s) = moments(content), moments(style)
    (u, d, _), (v, e, _) = torch.linalg.svd(cov_c[0]), torch.linalg.svd(cov_s[0])
    centered = content[0].flatten(1) - content[0].flatten(1).mean(dim=1, keepdim=True)
    white = u @ torch.diag(d**-0.5) @ u.T @ centered
    expected = v @ torch.diag(e**0.5) @ v.T @ white + style[0].flatten(1).mean(dim=1, keepdim=True)
    wct = make("wct", least_eigenvalue=1e-9)
    torch.testing.assert_close(wct.modulate(content, wct.predict(style))[0].flatten(1), expected)


def test_match_moments_is_adain_on_features() -> None:
    content, style = correlated(2, CHANNELS, 6, 7), correlated(2, CHANNELS, 8, 5, seed=1)
    transform = make("match_moments")
    out = transform.modulate(content, transform.predict(style))
    for got, wanted in zip(mean_std(out), mean_std(style), strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-6)  # the deviation has an epsilon


@pytest.mark.parametrize("size", [1, 3, 5])
def test_features_swapped_with_themselves_are_themselves(size: int) -> None:
    x = draw(2, CHANNELS, 6, 7)
    torch.testing.assert_close(swap_patches(x, x, size=size), x)


def test_the_nearest_patch_has_the_largest_normalised_correlation() -> None:
    content, style = draw(CHANNELS, 5, 6), draw(CHANNELS, 7, 5, seed=1)
    index = nearest_patches(content, unfolded(style), 3)
    patches = [style[:, y : y + 3, x : x + 3] for y in range(5) for x in range(3)]
    assert index.shape == (3, 4)
    for y in range(3):
        for x in range(4):
            looked_for = content[:, y : y + 3, x : x + 3]
            scores = [float((looked_for * p).sum() / p.norm()) for p in patches]
            assert int(index[y, x]) == scores.index(max(scores))


def test_the_scale_of_patches_does_not_matter_for_their_choice() -> None:
    content, style = draw(CHANNELS, 5, 6), draw(CHANNELS, 7, 5, seed=1)
    assert torch.equal(
        nearest_patches(content, unfolded(style), 3), nearest_patches(3 * content, unfolded(style * 0.1), 3)
    )


def test_overlapping_patches_are_averaged() -> None:
    """Of a style in one row with two patches of one pixel row, by hand."""
    style = torch.tensor([[[1.0, 2.0, 4.0, 0.0]]])  # [C=1,1,4]; patches of size 1 are the pixels
    content = torch.tensor([[[-1.0, 5.0]]])
    # Size 1: 5 correlates with every positive pixel by its sign; the first of equals is taken.
    torch.testing.assert_close(
        swap_patches(content[None], style[None], size=1)[0, 0, 0], torch.tensor([0.0, 1.0])
    )
    square = torch.arange(9.0).reshape(1, 1, 3, 3)
    larger = torch.ones(1, 1, 3, 4)  # two overlapping copies of the only patch
    first, both = square[0, 0], (square[0, 0, :, 1:] + square[0, 0, :, :-1]) / 2
    expected = torch.cat([first[:, :1], both, first[:, 2:]], dim=1)
    torch.testing.assert_close(swap_patches(larger, square, size=3)[0, 0], expected)


def test_strips_of_scores_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    content, style = draw(CHANNELS, 9, 6), draw(CHANNELS, 7, 5, seed=1)
    whole = nearest_patches(content, unfolded(style), 3)
    monkeypatch.setattr("ganmod.modulation.transforms.style_swap._NEARBY", 1)
    assert torch.equal(nearest_patches(content, unfolded(style), 3), whole)


@pytest.mark.parametrize("name", TRANSFORMS)
def test_a_style_transformed_by_itself_stays(name: str) -> None:
    style = correlated(1, CHANNELS, 6, 7)
    transform = make(name)
    torch.testing.assert_close(
        transform.modulate(style, transform.predict(style)), style, rtol=1e-4, atol=1e-5
    )


def test_the_decorator_swaps_white_features_and_colors_them() -> None:
    content, style = correlated(1, CHANNELS, 9, 8), correlated(1, CHANNELS, 8, 9, seed=1)
    decorator = make("style_decorator", patch_size=3, least_eigenvalue=1e-12)
    white = []
    for x in (content, style):
        values, vectors = torch.linalg.eigh(covariance(x)[0])
        centered = x[0] - x[0].mean(dim=(1, 2), keepdim=True)
        white.append(torch.einsum("oc,chw->ohw", vectors @ torch.diag(values**-0.5) @ vectors.T, centered))
    root = vectors @ torch.diag(values**0.5) @ vectors.T  # of the style
    swapped = swap_patches(white[0][None], white[1][None], size=3)[0]
    expected = torch.einsum("oc,chw->ohw", root, swapped) + style[0].mean(dim=(1, 2), keepdim=True)
    torch.testing.assert_close(decorator.modulate(content, decorator.predict(style))[0], expected)


def test_what_a_transform_cannot_do_is_said() -> None:
    tiny = draw(1, CHANNELS, 2, 2)
    swap = make("style_swap")
    with pytest.raises(ValueError, match=r"content's features have 2 x 2 pixels, expected"):
        swap.modulate(tiny, swap.predict(draw(1, CHANNELS, 6, 6)))
    with pytest.raises(ValueError, match=r"patch_size is 4, expected an odd number"):
        make("style_swap", patch_size=4)
    with pytest.raises(ValueError, match=r"one pixel have no covariance"):
        make("wct").predict(draw(1, CHANNELS, 1, 1))
    with pytest.raises(ValueError, match=r"style has shape \[1, 4, 6, 6\], expected \[N, 5, H, W\]"):
        make("wct").predict(draw(1, 4, 6, 6))
    with pytest.raises(ValueError, match=r"WCT has no form that files for other programs can hold"):
        make("wct").use_exportable_form()
    with pytest.raises(
        ValueError, match=r"'wct' needs a style of kind features, but this host supplies 'map'.*adaconv"
    ):
        create_modulation("wct", CHANNELS, StyleSpec("map", 4, 3))
    with pytest.raises(
        ValueError,
        match=r"'adaconv' needs .*'features'. Modulations that fit: match_moments, style_decorator",
    ):
        create_modulation("adaconv", CHANNELS, StyleSpec("features", CHANNELS))
