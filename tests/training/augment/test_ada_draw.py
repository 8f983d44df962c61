"""If this fails, ADA's augmentations are drawn with other odds or strengths than published, or per batch."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from scipy.linalg import polar

from ganmod.data.seeding import concat_params, draw_groups
from training.augment.ada_draw import (
    AUGMENT_PIPES,
    BAND_POWER,
    AugmentParams,
    AugmentSpec,
    augment_pipe,
    draw_augmentation,
    draw_band_gains,
    draw_color,
    draw_inverse,
)

N = 20_000
SHAPE = (1000, 1000)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def draw(p: float = 1.0, n: int = N, shape: tuple[int, int] = SHAPE, **settings: float) -> AugmentParams:
    return draw_augmentation(rng(), n, p, spec=AugmentSpec(**settings), image_shape=shape)  # type: ignore[arg-type]


def changed(params: AugmentParams) -> np.ndarray:
    """[N] bool: does any transform do anything to the image?"""
    return (
        (params.inverse != torch.eye(3)).flatten(1).any(1)
        | (params.color != torch.eye(4)).flatten(1).any(1)
        | (params.band_gains != 1).any(1)
        | (params.noise_std > 0)
        | (params.cutout[:, 2] > 0)
    ).numpy()


@pytest.mark.parametrize(
    ("name", "share"),
    [("xflip", 1 / 2), ("rotate90", 3 / 4), ("lumaflip", 1 / 2)]  # one of 2, 4, 2 choices is the identity
    + [(name, 1.0) for name in ("xint", "scale", "rotate", "aniso", "xfrac")]
    + [(name, 1.0) for name in ("brightness", "contrast", "hue", "saturation", "noise", "cutout")],
)
@pytest.mark.parametrize(("p", "multiplier"), [(0.3, 1.0), (0.8, 0.5), (1.0, 1.0)])
def test_each_transform_happens_with_probability_p_times_its_multiplier(
    name: str, share: float, p: float, multiplier: float
):
    params = draw(p, **{name: multiplier})  # type: ignore[arg-type]
    assert changed(params).mean() == pytest.approx(share * p * multiplier, abs=0.015)


def test_either_rotation_happens_with_p_rot():
    # With a strong fixed stretch between them, the two rotations can be told apart: p_rot = 1 - sqrt(1 - p).
    inverse = draw(0.5, n=4000, rotate=1.0, rotate_max=0.2).inverse[:, :2, :2].numpy()
    angle = np.arctan2(inverse[:, 1, 0], inverse[:, 0, 0])
    p_rot = 1 - np.sqrt(0.5)
    assert np.mean(angle == 0) == pytest.approx((1 - p_rot) ** 2, abs=0.03)
    single = 2 * p_rot * (1 - p_rot)
    variance = (0.2 * np.pi) ** 2 / 3  # of U(-0.2 pi, 0.2 pi); of two, twice that
    assert np.var(angle) == pytest.approx(variance * (single + 2 * p_rot**2), rel=0.1)


def test_nothing_at_p_zero_and_nothing_by_an_empty_spec():
    for params in (
        draw_augmentation(rng(), 100, 0.0, spec=AUGMENT_PIPES["bgcfnc"], image_shape=(32, 48)),
        draw(1.0, n=100),
    ):
        assert not changed(params).any()


def test_geometric_strengths():
    linear = draw(scale=1.0).inverse[:, :2, :2].numpy()
    log_scale = -np.log2(linear[:, 0, 0])
    np.testing.assert_array_equal(linear[:, 0, 0], linear[:, 1, 1])
    assert (log_scale.mean(), log_scale.std()) == pytest.approx((0, 0.2), abs=0.005)
    linear = draw(aniso=1.0).inverse[:, :2, :2].numpy()
    log_scale = -np.log2(linear[:, 0, 0])
    np.testing.assert_allclose(linear[:, 0, 0] * linear[:, 1, 1], 1, atol=1e-12)
    assert (log_scale.mean(), log_scale.std()) == pytest.approx((0, 0.2), abs=0.005)
    shift = draw(xfrac=1.0, shape=(100, 200)).inverse[:, :2, 2].numpy()
    assert shift.std(axis=0) == pytest.approx([25, 12.5], rel=0.02)
    shift = draw(xint=1.0, shape=(100, 200)).inverse[:, :2, 2].numpy()
    np.testing.assert_array_equal(shift, np.round(shift))
    assert shift.std(axis=0) == pytest.approx([25 / 3**0.5, 12.5 / 3**0.5], rel=0.02)
    assert np.abs(shift).max(axis=0) == pytest.approx([25, 12])
    linear = draw(rotate=1.0).inverse[:, :2, :2].numpy()
    angle = np.arctan2(linear[:, 1, 0], linear[:, 0, 0])
    np.testing.assert_allclose(np.linalg.det(linear), 1, atol=1e-12)
    assert np.histogram(angle, bins=8, range=(-np.pi, np.pi))[0] == pytest.approx(N / 8, rel=0.08)


def test_color_strengths():
    brightness = draw(brightness=1.0).color[:, :3, 3].numpy()
    np.testing.assert_array_equal(brightness, brightness[:, :1].repeat(3, axis=1))
    assert (brightness.mean(), brightness[:, 0].std()) == pytest.approx((0, 0.2), abs=0.005)
    contrast = np.log2(draw(contrast=1.0).color[:, 0, 0].numpy())
    assert (contrast.mean(), contrast.std()) == pytest.approx((0, 0.5), abs=0.01)
    # Saturation scales what is orthogonal to grey, here red - green.
    color = draw(saturation=1.0).color[:, :3, :3].numpy()
    saturation = np.log2((color @ [1.0, -1, 0])[:, 0])
    assert (saturation.mean(), saturation.std()) == pytest.approx((0, 1.0), abs=0.02)
    hue = draw(hue=1.0).color[:, :3, :3].numpy()
    cosine = (np.trace(hue, axis1=1, axis2=2) - 1) / 2
    share = np.histogram(np.arccos(cosine.clip(-1, 1)), bins=4, range=(0, np.pi))[0]
    assert share == pytest.approx(N / 4, rel=0.05)


@pytest.mark.parametrize("band", range(4))
def test_a_band_is_amplified_and_the_expected_power_kept(band: int):
    spec = AugmentSpec(imgfilter=1.0, imgfilter_bands=tuple(float(i == band) for i in range(4)))
    gains = draw_band_gains(rng(), N, 1.0, spec=spec)
    others = [i for i in range(4) if i != band]
    np.testing.assert_allclose(gains**2 @ BAND_POWER, 1, atol=1e-12)
    np.testing.assert_allclose(gains[:, others], gains[:, others[:1]].repeat(3, axis=1))
    ratio = np.log2(gains[:, band] / gains[:, others[0]])
    assert (ratio.mean(), ratio.std()) == pytest.approx((0, 1), abs=0.02)


def test_every_band_is_drawn_with_probability_p():
    gains = draw_band_gains(rng(), N, 0.3, spec=AUGMENT_PIPES["filter"])
    assert np.mean((gains == 1).all(axis=1)) == pytest.approx(0.7**4, abs=0.015)


def test_noise_and_cutout_strengths():
    params = draw(noise=1.0, cutout=1.0)
    assert params.noise_std.mean() == pytest.approx(0.1 * (2 / np.pi) ** 0.5, rel=0.02)
    assert params.noise_std.square().mean() == pytest.approx(0.01, rel=0.03)
    assert len(params.noise_seed.unique()) == N
    assert (params.cutout[:, 2] == 0.5).all()
    assert params.cutout[:, :2].mean(0).tolist() == pytest.approx([0.5, 0.5], abs=0.01)
    assert params.cutout[:, :2].var(0).tolist() == pytest.approx([1 / 12, 1 / 12], rel=0.03)


def test_geometric_transforms_are_composed_in_the_published_order():
    def alone(name: str) -> np.ndarray:
        return draw_inverse(rng(), 50, 1.0, spec=AugmentSpec(**{name: 1.0}), image_shape=(64, 48))  # type: ignore[arg-type]

    whole = draw_inverse(rng(), 50, 1.0, spec=AUGMENT_PIPES["bg"], image_shape=(64, 48))
    before = alone("xflip") @ alone("rotate90") @ alone("xint") @ alone("scale")
    middle = (np.linalg.inv(before) @ whole @ np.linalg.inv(alone("xfrac")))[:, :2, :2]
    for rotated, both, stretch in zip(middle, alone("rotate"), alone("aniso"), strict=True):
        # rotation @ stretch @ rotation: polar decomposition gives both rotations and the stretch between.
        rotation, symmetric = polar(rotated)
        np.testing.assert_allclose(rotation, both[:2, :2], atol=1e-10)
        np.testing.assert_allclose(np.linalg.eigvalsh(symmetric), np.sort(np.diag(stretch)[:2]), atol=1e-10)
        assert abs(symmetric[0, 1]) > 1e-6


def test_color_transforms_are_composed_in_the_published_order():
    names = ("brightness", "contrast", "lumaflip", "hue", "saturation")
    expected = np.eye(4)
    for name in names:
        expected = draw_color(rng(), 50, 1.0, spec=AugmentSpec(**{name: 1.0})) @ expected  # type: ignore[arg-type]
    np.testing.assert_allclose(draw_color(rng(), 50, 1.0, spec=AUGMENT_PIPES["color"]), expected, atol=1e-12)


def test_pipes_are_sums_of_their_groups():
    def used(name: str) -> set[str]:
        spec = vars(AUGMENT_PIPES[name])
        return {key for key, value in spec.items() if value == 1.0 and "_" not in key}

    assert used("bgc") == used("blit") | used("geom") | used("color")
    assert used("bgcfnc") - used("bgc") == {"imgfilter", "noise", "cutout"}
    assert used("bg") == {"xflip", "rotate90", "xint", "scale", "rotate", "aniso", "xfrac"}
    published = "blit geom color filter noise cutout bg bgc bgcf bgcfn bgcfnc"
    assert " ".join(AUGMENT_PIPES) == published


def test_groups_drawn_one_by_one_equal_groups_drawn_together():
    draw_one = partial(
        draw_augmentation, num_samples=4, p=0.7, spec=AUGMENT_PIPES["bgcfnc"], image_shape=(32, 32)
    )
    draw = partial(draw_groups, draw_one, seed=5)
    together = draw(purpose="augment", first=6, count=4)
    split = concat_params([draw(purpose="augment", first=i, count=n) for i, n in ((6, 1), (7, 2), (9, 1))])
    assert isinstance(together, AugmentParams)
    for field in AugmentParams._fields:
        a, b = getattr(together, field), getattr(split, field)
        assert len(a) == 16
        assert torch.equal(a, b)
    for other in (draw(purpose="another", first=6, count=4), draw(purpose="augment", first=7, count=4)):
        assert not torch.equal(other.inverse, together.inverse)


def test_a_larger_p_keeps_the_augmentations_of_a_smaller_one():
    draw = partial(draw_augmentation, num_samples=2000, spec=AUGMENT_PIPES["bgc"], image_shape=(32, 32))
    weak, strong = draw(rng(3), p=0.05), draw(rng(3), p=0.1)
    kept = (weak.color == strong.color).flatten(1).all(1) | ~torch.from_numpy(changed(weak))
    assert kept.float().mean() > 0.8
    assert changed(weak)[~changed(strong)].sum() == 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: draw(1.2, n=1), "p is 1.2: give a value from 0 to 1"),
        (lambda: draw(1.0, n=0), "0 samples"),
        (lambda: draw(1.0, n=1, shape=(0, 4)), "at least one"),
        (lambda: AugmentSpec(hue=1.5), "hue is 1.5: give a multiplier"),
        (lambda: AugmentSpec(noise_std=-1.0), "noise_std is -1.0"),
        (lambda: AugmentSpec(imgfilter_bands=(1.0,)), "give 4 multipliers"),
        (lambda: augment_pipe("bcg"), "unknown augmentation pipe 'bcg': choose one of blit, .* bgc, "),
        (lambda: concat_params([]), "at least one"),
        (
            lambda: draw_groups(lambda _: (torch.zeros(1),), seed=0, purpose="", first=-1, count=1),
            "first >= 0",
        ),
    ],
)
def test_what_cannot_be_drawn_is_named(call, message: str):
    with pytest.raises(ValueError, match=message):
        call()
