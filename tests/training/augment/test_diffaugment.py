"""If this fails, DiffAugment changes images differently than published, or irreproducibly."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch

from ganmod.data.seeding import draw_groups
from training.augment.diffaugment import (
    DiffAugmentParams,
    change_color,
    diffaugment,
    draw_diffaugment,
    erase,
    parse_policy,
    translate_images,
)

ALL = "color,translation,cutout"


def images(n: int = 2, height: int = 7, width: int = 9) -> torch.Tensor:
    return torch.randn(n, 3, height, width, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def draw(n: int = 20_000, policy: str = ALL, shape: tuple[int, int] = (32, 64)) -> DiffAugmentParams:
    return draw_diffaugment(np.random.default_rng(0), n, policy=policy, image_shape=shape)


def test_color_equals_the_formula_on_one_image():
    x = images(1).numpy()[0]
    brighter = x + 0.3
    grey = brighter.mean(axis=0, keepdims=True)
    saturated = (brighter - grey) * 1.7 + grey
    expected = (saturated - saturated.mean()) * 0.6 + saturated.mean()
    out = change_color(images(1), torch.tensor([[0.3, 1.7, 0.6]], dtype=torch.float64))
    np.testing.assert_allclose(out[0], expected, atol=1e-12)


def test_translation_moves_and_fills_with_zeros():
    x = images(2)
    out = translate_images(x, torch.tensor([[2, -1], [-9, 3]]))
    expected = torch.zeros_like(x[0])
    expected[:, :-1, 2:] = x[0, :, 1:, :-2]
    assert torch.equal(out[0], expected)
    assert not out[1].any()


def test_cutout_clears_the_box_alone():
    x = images(2)
    out = erase(x, torch.tensor([[-2, 1, 3, 4], [2, 3, 5, 20]]))
    expected = x.clone()
    expected[0, :, 1:4, :3] = 0
    expected[1, :, 3:, 2:5] = 0
    assert torch.equal(out, expected)


def test_published_ranges():
    params = draw()
    low, high = params.color.min(0).values, params.color.max(0).values
    assert low.tolist() == pytest.approx([-0.5, 0, 0.5], abs=0.01)
    assert high.tolist() == pytest.approx([0.5, 2, 1.5], abs=0.01)
    assert params.color.mean(0).tolist() == pytest.approx([0, 1, 1], abs=0.02)
    assert params.shift.unique(dim=0).shape == (17 * 9, 2)  # -8..8 of 64 columns, -4..4 of 32 rows
    assert params.shift.abs().amax(0).tolist() == [8, 4]
    side = params.box[:, 2:] - params.box[:, :2]
    assert (side == torch.tensor([32, 16])).all()
    centre = params.box[:, :2] + side // 2
    assert centre.amin(0).tolist() == [0, 0]
    assert centre.amax(0).tolist() == [64, 32]  # even sides: one position more than there are pixels


def test_an_odd_box_is_centred_on_a_pixel():
    box = draw(policy="cutout", shape=(5, 6)).box
    assert (box[:, 2:] - box[:, :2]).unique(dim=0).tolist() == [[3, 3]]
    assert box[:, :2].amin(0).tolist() == [-1, -1]
    assert box[:, 2:].amax(0).tolist() == [7, 6]


@pytest.mark.parametrize(
    ("policy", "identity"),
    [("", {"color", "shift", "box"}), ("color", {"shift", "box"}), ("cutout,translation", {"color"})],
)
def test_a_policy_draws_its_part_and_leaves_the_rest(policy: str, identity: set[str]):
    part, whole = draw(50, policy), draw(50)
    neutral = {"color": torch.tensor([0.0, 1.0, 1.0]), "shift": torch.zeros(2)}
    for name in ("color", "shift"):
        if name in identity:
            assert (getattr(part, name) == neutral[name]).all()
        else:
            assert torch.equal(getattr(part, name), getattr(whole, name))
    assert (part.box[:, 2:] == part.box[:, :2]).all() == ("box" in identity)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_an_empty_policy_gives_the_images_back_bit_for_bit(dtype: torch.dtype):
    x = images(4).to(dtype)
    assert torch.equal(diffaugment(x, draw(4, "", (7, 9))), x)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_an_image_does_not_depend_on_its_batch_and_keeps_its_precision(dtype: torch.dtype):
    draw_one = partial(draw_diffaugment, num_samples=2, policy=ALL, image_shape=(7, 9))
    together = draw_groups(draw_one, seed=1, purpose="diffaugment", first=3, count=2)
    x = images(4).to(dtype)
    out = diffaugment(x, together)
    assert out.dtype == dtype
    for group in range(2):
        alone = draw_groups(draw_one, seed=1, purpose="diffaugment", first=3 + group, count=1)
        part = slice(2 * group, 2 * group + 2)
        torch.testing.assert_close(diffaugment(x[part], alone), out[part], atol=1e-6, rtol=0)


def test_transforms_follow_one_another_color_translation_cutout():
    x, params = images(3), draw(3, ALL, (7, 9))
    expected = erase(translate_images(change_color(x, params.color), params.shift), params.box)
    torch.testing.assert_close(diffaugment(x, params), expected, atol=1e-12, rtol=0)


def test_twice_differentiable():
    x = images(2, 4, 5).requires_grad_()
    params = draw(2, ALL, (4, 5))
    assert torch.autograd.gradcheck(lambda x: diffaugment(x, params), x)
    # The pipeline is linear: a nonlinearity behind it gives the second derivative something to find.
    assert torch.autograd.gradgradcheck(lambda x: diffaugment(x, params).tanh(), x)


def test_policies_are_names_in_any_order():
    assert parse_policy("cutout, color") == ("color", "cutout")
    for policy in ("colour", "color,color"):
        with pytest.raises(ValueError, match="give each of color, translation, cutout at most once"):
            parse_policy(policy)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: draw(0), "0 samples"),
        (lambda: diffaugment(images(3), draw(2)), "for 2 images, the batch has 3"),
        (lambda: diffaugment(images().to(torch.uint8), draw(2)), "give floating point"),
    ],
)
def test_what_does_not_fit_is_named(call, message: str):
    with pytest.raises(ValueError, match=message):
        call()
