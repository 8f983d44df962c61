"""If this fails, ADA shows the discriminator other images than published, or the wrong gradients of them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor

from ganmod.data.seeding import concat_params, draw_groups
from training.augment.ada_augment import add_noise, augment, cut_out, transform_color
from training.augment.ada_draw import AUGMENT_PIPES, AugmentParams, AugmentSpec, draw_augmentation, draw_color
from training.augment.ada_transforms import blit, is_blit, warp

DTYPES = [torch.float32, torch.float64, torch.bfloat16]


def images(n: int = 2, height: int = 12, width: int = 12, channels: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(n)
    return torch.randn(n, channels, height, width, generator=generator, dtype=torch.float64)


def draw(
    pipe: str = "bgcfnc", n: int = 4, p: float = 1.0, shape: tuple[int, int] = (12, 12), seed: int = 0
) -> AugmentParams:
    rng = np.random.default_rng(seed)
    return draw_augmentation(rng, n, p, spec=AUGMENT_PIPES[pipe], image_shape=shape)


def test_drawn_blits_are_flips_turns_and_translations():
    for name in ("xflip", "rotate90"):
        spec = AugmentSpec(**{name: 1.0})  # type: ignore[arg-type]
        params = draw_augmentation(np.random.default_rng(0), 16, 1.0, spec=spec, image_shape=(12, 12))
        x = images(16)
        for before, after in zip(x, augment(x, params), strict=True):
            options = [before, before.flip(2), *(before.rot90(k, (1, 2)) for k in (1, 2, 3))]
            options = options[:2] if name == "xflip" else [options[0], *options[2:]]
            assert any(torch.equal(after, option) for option in options)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(16, 16), (6, 20), (3, 5), (1, 1)])
def test_an_image_does_not_depend_on_its_batch(shape: tuple[int, int], dtype: torch.dtype):
    draw_one = partial(
        draw_augmentation, num_samples=1, p=0.9, spec=AUGMENT_PIPES["bgcfnc"], image_shape=shape
    )
    draw = partial(draw_groups, draw_one, seed=1, purpose="augment")
    x = images(8, *shape).clamp(-1, 1).to(dtype)
    together = augment(x, draw(first=0, count=8))
    assert together.isfinite().all()
    tolerance = {torch.float32: 1e-5, torch.float64: 1e-13}[dtype] * float(together.abs().max())
    for size in (1, 2, 4):
        parts = [augment(x[i : i + size], draw(first=i, count=size)) for i in range(0, 8, size)]
        torch.testing.assert_close(torch.cat(parts), together, atol=tolerance, rtol=0)


@pytest.mark.parametrize("dtype", DTYPES)
def test_at_p_zero_images_come_back_bit_for_bit(dtype: torch.dtype):
    x = images(4).to(dtype)
    out = augment(x, draw(p=0.0))
    assert out.dtype == dtype
    assert torch.equal(out, x)
    # So does an untouched image in a batch with others.
    mixed = concat_params([draw(n=2), draw(n=1, p=0.0), draw(n=1)])
    assert torch.equal(augment(x, mixed)[2], x[2])
    assert not torch.equal(augment(x, mixed)[1], x[1])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("autocast", [False, True])
def test_every_precision_gives_the_same_image(dtype: torch.dtype, autocast: bool):
    x, params = images(4).clamp(-1, 1).to(dtype), draw()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        out = augment(x, params)
    assert out.dtype == dtype
    tolerance = {torch.float64: 1e-12, torch.float32: 2e-5, torch.bfloat16: 0.03}[dtype]
    torch.testing.assert_close(out.double(), augment(x.double(), params), atol=tolerance, rtol=0)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_whole_pipeline_is_twice_differentiable(channels: int):
    params = draw(n=2, shape=(3, 4), seed=3)
    assert not is_blit(params.inverse, 3, 4).any()
    x = images(2, 3, 4, channels).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: augment(x, params), x)
    # The pipeline is linear: a nonlinearity behind it gives the second derivative something to find.
    assert torch.autograd.gradgradcheck(lambda x: augment(x, params).tanh(), x)


def test_copies_are_twice_differentiable():
    params = draw("blit", n=3, shape=(3, 5), seed=1)
    assert is_blit(params.inverse, 3, 5).all()
    x = images(3, 3, 5, channels=1).requires_grad_()
    assert torch.autograd.gradgradcheck(lambda x: augment(x, params).tanh(), x)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        # (r, g, b) = (0.5, -0.25, 0.2), whose mean is 0.15.
        ({"brightness": 1.0}, lambda rgb, b: rgb + b),
        ({"contrast": 1.0}, lambda rgb, s: rgb * s),
        ({"lumaflip": 1.0}, lambda rgb, i: rgb - 2 * 0.15 * i),
        ({"saturation": 1.0}, lambda rgb, s: 0.15 + (rgb - 0.15) * s),
    ],
)
def test_color_transforms_by_hand_on_a_pixel(change: dict, expected: Callable):
    rgb = torch.tensor([0.5, -0.25, 0.2], dtype=torch.float64)
    color = torch.from_numpy(draw_color(np.random.default_rng(1), 8, 1.0, spec=AugmentSpec(**change)))
    amount = {
        "brightness": color[:, 0, 3],
        "contrast": color[:, 0, 0],
        "lumaflip": (color[:, 0, 0] < 1).double(),
        "saturation": color[:, 0, 0] - color[:, 0, 1],
    }[next(iter(change))]
    out = transform_color(rgb[None, :, None, None].expand(8, 3, 2, 2), color)
    for sample in range(8):
        pixel = expected(rgb, amount[sample])
        torch.testing.assert_close(out[sample], pixel[:, None, None].expand(3, 2, 2), atol=1e-12, rtol=0)
    assert len(amount.unique()) > 1


def test_hue_rotation_keeps_luma_and_distance_from_grey():
    x = images(16)
    color = torch.from_numpy(draw_color(np.random.default_rng(0), 16, 1.0, spec=AugmentSpec(hue=1.0)))
    out = transform_color(x, color)
    torch.testing.assert_close(out.mean(1), x.mean(1))
    torch.testing.assert_close(out.var(1), x.var(1))
    assert (out - x).abs().mean() > 0.1
    third = 2 * np.pi / 3  # a third of a circle: red becomes green
    axis = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / 3**0.5
    rotation = np.eye(3) + np.sin(third) * axis + (1 - np.cos(third)) * axis @ axis
    np.testing.assert_allclose(rotation @ [1, 0, 0], [0, 1, 0], atol=1e-12)
    drawn_rotation = color[0, :3, :3].numpy()
    angle = np.arctan2(np.trace(axis.T @ drawn_rotation) / 2, (np.trace(drawn_rotation) - 1) / 2)
    rodrigues = np.eye(3) + np.sin(angle) * axis + (1 - np.cos(angle)) * axis @ axis
    np.testing.assert_allclose(drawn_rotation, rodrigues, atol=1e-12)


def test_a_grey_image_is_a_color_image_with_equal_channels():
    x, params = images(4, channels=1), draw("color")
    expected = augment(x.expand(-1, 3, -1, -1), params).mean(dim=1, keepdim=True)
    torch.testing.assert_close(augment(x, params), expected, atol=1e-12, rtol=0)


def test_noise_has_its_deviation_and_its_own_seed():
    x = torch.zeros(3, 3, 100, 100)
    std, seed = torch.tensor([0.1, 0.4, 0.1]).double(), torch.tensor([5, 5, 6])
    out = add_noise(x, std, seed)
    assert out.std(dim=(1, 2, 3)).tolist() == pytest.approx([0.1, 0.4, 0.1], rel=0.02)
    torch.testing.assert_close(out[0] * 4, out[1])
    correlation = torch.corrcoef(out.flatten(1))[0, 2]
    assert abs(correlation) < 0.03
    assert torch.equal(add_noise(x[:1], std[:1], seed[:1]), out[:1])


def test_cutout_clears_a_box_of_half_the_sides():
    x = torch.ones(3, 3, 16, 32)
    boxes = torch.tensor([[0.5, 0.5, 0.5], [0.0, 0.5, 0.5], [1.0, 1.0, 0.5]], dtype=torch.float64)
    expected = torch.ones(3, 3, 16, 32)
    expected[0, :, 4:12, 8:24] = 0
    expected[1, :, 4:12, :8] = 0
    expected[2, :, 12:, 24:] = 0
    assert torch.equal(cut_out(x, boxes), expected)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: augment(images(3), draw(n=4)), "for 4 images, the batch has 3"),
        (lambda: augment(images(4, channels=4), draw(n=4)), "with 1 or 3 channels"),
        (lambda: augment(images(4).to(torch.uint8), draw(n=4)), "give floating point"),
        (lambda: augment(images(4)[0], draw(n=4)), r"give floating point \[N,C,H,W\]"),
    ],
)
def test_what_does_not_fit_is_named(call: Callable, message: str):
    with pytest.raises(ValueError, match=message):
        call()


def test_an_untouched_batch_costs_no_copy():
    x = images(4)
    assert warp(x, draw(p=0.0).inverse) is x
    assert blit(x, draw(p=0.0).inverse).equal(x)


@pytest.mark.gpu
def test_a_gpu_gives_the_same_images_and_gradients():
    x, params = images(4), draw("bgcf")
    here, there = x.clone().requires_grad_(), x.cuda().requires_grad_()
    torch.testing.assert_close(augment(there, params).cpu(), augment(here, params), atol=1e-10, rtol=0)
    small, params = images(2, 3, 4).cuda().requires_grad_(), draw("bgcfnc", n=2, shape=(3, 4), seed=3)
    assert torch.autograd.gradgradcheck(lambda x: augment(x, params).tanh(), small, nondet_tol=1e-10)
