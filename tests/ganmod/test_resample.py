"""If this fails, images are resampled otherwise than by zero insertion, padding, filtering and decimation."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ganmod.resample import (
    DownConv2d,
    Downsample2x,
    UpConv2d,
    Upsample2x,
    filter_taps,
    upfirdn2d,
)

TAPS = {
    1: [1.0],
    2: [1.0, 3.0],
    3: [1.0, 2.0, -0.5],
    4: [1.0, 3.0, 3.0, 1.0],
    6: [1.0, -2.0, 3.0, 4.0, 0.5, 2.0],
    12: list(range(12)),
}


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def direct(x: Tensor, kernel: Tensor, *, up: int, down: int, padding: tuple[int, int], gain: float) -> Tensor:
    """The definition, step by step, for each pixel of the output."""
    n, c, height, width = x.shape
    enlarged = torch.zeros(n, c, height * up, width * up, dtype=x.dtype)
    enlarged[:, :, ::up, ::up] = x
    padded = F.pad(enlarged, [*padding, *padding])
    taps = len(kernel)
    mirrored = (kernel[:, None] * kernel[None]).flip(0, 1) * gain
    rows, columns = padded.shape[2] - taps + 1, padded.shape[3] - taps + 1
    out = torch.empty(n, c, rows, columns, dtype=x.dtype)
    for i in range(rows):
        for j in range(columns):
            out[:, :, i, j] = (padded[:, :, i : i + taps, j : j + taps] * mirrored).sum(dim=(2, 3))
    return out[:, :, ::down, ::down]


@pytest.mark.parametrize("taps", TAPS)
@pytest.mark.parametrize(("up", "down"), [(1, 1), (2, 1), (1, 2), (2, 2), (3, 2)])
@pytest.mark.parametrize("padding", [(0, 0), (2, 2), (2, 1), (5, 0), (-1, 3), (4, -2)])
def test_equals_the_definition(taps: int, up: int, down: int, padding: tuple[int, int]):
    x = draw(2, 3, 11, 8)
    kernel = torch.tensor(TAPS[taps], dtype=torch.float64)
    if 8 * up + sum(padding) < taps:
        with pytest.raises(ValueError, match=f"too small for {taps} taps"):
            upfirdn2d(x, kernel, up=up, down=down, padding=padding)
        return
    expected = direct(x, kernel, up=up, down=down, padding=padding, gain=1.7)
    out = upfirdn2d(x, kernel, up=up, down=down, padding=padding, gain=1.7)
    torch.testing.assert_close(out, expected, rtol=1e-12, atol=1e-12)


def test_taps_are_normalised():
    torch.testing.assert_close(filter_taps([1, 3, 3, 1]), torch.tensor([0.125, 0.375, 0.375, 0.125]))
    with pytest.raises(ValueError, match=r"\[1, -1\], expected numbers that do not sum to zero"):
        filter_taps([1, -1])


def test_upsampling_by_hand():
    """[1,3,3,1] / 8 * 2 along one axis: every new pixel lies a quarter from an old one; outside is zero."""
    row = torch.tensor([4.0, 8.0, 0.0])[None, None, None].expand(1, 1, 5, 3).contiguous()
    out = Upsample2x()(row)
    assert out.shape == (1, 1, 10, 6)
    torch.testing.assert_close(out[0, 0, 4], torch.tensor([3.0, 5.0, 7.0, 6.0, 2.0, 0.0]))


def test_downsampling_by_hand():
    row = torch.tensor([0.0, 8.0, 0.0, 0.0, 16.0, 0.0])[None, None, None].expand(1, 1, 8, 6).contiguous()
    out = Downsample2x()(row)
    assert out.shape == (1, 1, 4, 3)
    torch.testing.assert_close(out[0, 0, 1], torch.tensor([3.0, 3.0, 6.0]))


def test_the_inside_of_a_constant_image_stays_constant():
    x = torch.full((1, 2, 8, 6), 3.0)
    torch.testing.assert_close(Upsample2x()(x)[:, :, 1:-1, 1:-1], torch.full((1, 2, 14, 10), 3.0))
    torch.testing.assert_close(Downsample2x()(x)[:, :, 1:-1, 1:-1], torch.full((1, 2, 2, 1), 3.0))


def test_downsampling_is_the_transpose_of_upsampling():
    """<up(x), y> = 4 <x, down(y)>, the filter being symmetric."""
    x, y = draw(2, 3, 5, 4), draw(2, 3, 10, 8, seed=1)
    left = (Upsample2x()(x) * y).sum()
    torch.testing.assert_close(left, 4 * (x * Downsample2x()(y)).sum(), rtol=1e-12, atol=1e-12)


def enlarge_directly(x: Tensor, kernel: Tensor, *, margin: int) -> Tensor:
    """Upsampled 2x with `margin` more pixels on each side than 2H."""
    return direct(x, kernel, up=2, down=1, padding=(2 + margin, 1 + margin), gain=4)


@pytest.mark.parametrize("size", [1, 3, 5])
@pytest.mark.parametrize("per_sample", [False, True])
def test_up_conv_is_upsampling_then_convolution(size: int, per_sample: bool):
    """Without a crop in between; the kernel mirrored, as in a transposed convolution."""
    x, conv = draw(2, 3, 5, 4), UpConv2d(3, 4, size).double()
    weight = draw(2, 4, 3, size, size, seed=1) if per_sample else draw(4, 3, size, size, seed=1)
    weights = weight if per_sample else weight.expand(2, 4, 3, size, size)
    large = enlarge_directly(x, conv.kernel, margin=size // 2)
    expected = torch.cat(
        [F.conv2d(sample[None], w.flip(2, 3)) for sample, w in zip(large, weights, strict=True)]
    )
    assert expected.shape == (2, 4, 10, 8)
    torch.testing.assert_close(conv.apply_weight(x, weight), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("size", [1, 3, 5])
@pytest.mark.parametrize("per_sample", [False, True])
def test_down_conv_is_filtering_then_a_convolution_with_stride_two(size: int, per_sample: bool):
    x, conv = draw(2, 3, 6, 8), DownConv2d(3, 4, size).double()
    weight = draw(2, 4, 3, size, size, seed=1) if per_sample else draw(4, 3, size, size, seed=1)
    weights = weight if per_sample else weight.expand(2, 4, 3, size, size)
    pad = size // 2 + 1
    smooth = direct(x, conv.kernel, up=1, down=1, padding=(pad, pad), gain=1)
    expected = torch.cat(
        [F.conv2d(sample[None], w)[:, :, ::2, ::2] for sample, w in zip(smooth, weights, strict=True)]
    )
    assert expected.shape == (2, 4, 3, 4)
    torch.testing.assert_close(conv.apply_weight(x, weight), expected, rtol=1e-12, atol=1e-12)


def test_a_pixel_through_the_up_conv_gives_kernel_and_filter_convolved():
    """The kernel appears as it is stored, not mirrored, at twice the pixel's position."""
    conv = UpConv2d(1, 1).double()
    x = torch.zeros(1, 1, 5, 5, dtype=torch.float64)
    x[0, 0, 2, 2] = 1
    taps = conv.kernel * 2
    outer = taps[:, None] * taps[None]
    blot = F.conv_transpose2d(outer[None, None], conv.weight.detach())[0, 0]  # [6,6]
    out = conv.apply_weight(x, conv.weight.detach())[0, 0]
    torch.testing.assert_close(out[2:8, 2:8], blot, rtol=1e-12, atol=1e-12)
    assert out.abs().sum() == pytest.approx(blot.abs().sum().item())


@pytest.mark.parametrize("size", [1, 3])
def test_an_input_upsampled_before_differs_in_the_outermost_pixels_only(size: int):
    x = draw(1, 2, 5, 4)
    conv = UpConv2d(2, 3, size).double()
    late = UpConv2d(2, 3, size, input_upsampled=True).double()
    late.load_state_dict(conv.state_dict())
    expected, out = conv(x), late(Upsample2x().double()(x))
    assert out.shape == expected.shape
    inner = (..., slice(1, -1), slice(1, -1))
    torch.testing.assert_close(out[inner], expected[inner], rtol=1e-12, atol=1e-12)
    assert torch.allclose(out, expected) == (size == 1)


def test_the_bias_is_added_last():
    x, bias = draw(1, 2, 6, 4), draw(3, seed=1)
    for conv in (UpConv2d(2, 3), UpConv2d(2, 3, input_upsampled=True), UpConv2d(2, 3, 1), DownConv2d(2, 3)):
        conv = conv.double()
        out = conv.apply_weight(x, conv.scaled_weight, bias)
        torch.testing.assert_close(out, conv(x) + bias[:, None, None], rtol=1e-12, atol=1e-12)


def test_the_filter_is_no_part_of_the_state():
    assert list(UpConv2d(2, 3).state_dict()) == list(DownConv2d(2, 3).state_dict()) == ["weight"]
    assert not Upsample2x().state_dict()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_dtype_and_memory_format_are_kept(dtype: torch.dtype, memory_format: torch.memory_format):
    exact = draw(2, 4, 6, 8)
    x = exact.to(dtype).to(memory_format=memory_format)
    for module in (Upsample2x(), Downsample2x()):
        out = module(x)
        assert out.dtype == dtype
        assert out.is_contiguous(memory_format=memory_format)
        error = (out.double() - module(x.double())).abs().max()
        assert error < {torch.float32: 1e-6, torch.bfloat16: 0.03, torch.float16: 0.004}[dtype]
    for conv in (UpConv2d(4, 3), DownConv2d(4, 3)):
        out = conv.to(dtype).to(memory_format=memory_format)(x)
        assert out.dtype == dtype
        assert out.is_contiguous(memory_format=memory_format)


@pytest.mark.parametrize("taps", [4, 6])
@pytest.mark.parametrize(("up", "down"), [(1, 1), (2, 1), (1, 2)])
def test_resampling_is_differentiable_twice(taps: int, up: int, down: int):
    kernel = torch.tensor(TAPS[taps], dtype=torch.float64)

    def square(x: Tensor) -> Tensor:  # resampling alone has no second derivative
        return upfirdn2d(x, kernel, up=up, down=down, padding=(3, 2)).square()

    x = draw(1, 2, 4, 3).requires_grad_()
    assert torch.autograd.gradcheck(square, x)
    assert torch.autograd.gradgradcheck(square, x)


@pytest.mark.parametrize("per_sample", [False, True])
@pytest.mark.parametrize("conv", [UpConv2d(2, 2), DownConv2d(2, 2)], ids=["up", "down"])
def test_resampling_convolutions_are_differentiable_twice(conv: UpConv2d | DownConv2d, per_sample: bool):
    shape = (2, 2, 2, 3, 3) if per_sample else (2, 2, 3, 3)
    x, weight = draw(2, 2, 4, 2).requires_grad_(), draw(*shape, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(conv.double().apply_weight, (x, weight), fast_mode=True)
    assert torch.autograd.gradgradcheck(conv.apply_weight, (x, weight), fast_mode=True)


def test_mistakes_are_explained():
    x, kernel = torch.zeros(1, 1, 4, 4), filter_taps()
    with pytest.raises(ValueError, match="up is 0 and down 1, expected whole numbers from 1"):
        upfirdn2d(x, kernel, up=0)
    with pytest.raises(ValueError, match=r"kernel has shape \[4, 4\], expected \[T\]"):
        upfirdn2d(x, kernel[:, None] * kernel)
    with pytest.raises(ValueError, match=r"x is 4 x 4, with padding \(-1, 0\) too small for 4 taps"):
        upfirdn2d(x, kernel, padding=(-1, 0))
