"""If this fails, a form of the per-sample convolution no longer computes what the plain loop does."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ganmod.modulation import per_sample_conv
from ganmod.modulation.per_sample_conv import ConvImpl, per_sample_conv2d

IMPLS: tuple[ConvImpl, ...] = ("auto", "loop", "grouped", "samples", "chunks", "unfold", "shifted")


def expected(x: Tensor, weight: Tensor, bias: Tensor | None, norm_eps: float | None) -> Tensor:
    """Tap by tap and group by group, on one sample at a time, without any convolution operator."""
    channels, height, width = x.shape[1:]
    out_channels, group_size, size = weight.shape[1:4]
    rows = out_channels * group_size // channels
    if norm_eps is not None:
        mean = x.mean(dim=(2, 3), keepdim=True)
        x = (x - mean) / ((x - mean).square().mean(dim=(2, 3), keepdim=True) + norm_eps).sqrt()
    x = F.pad(x, (size // 2,) * 4, mode="reflect")
    samples = []
    for sample, kernel in zip(x, weight, strict=True):
        maps = []
        for o in range(out_channels):
            group = sample[o // rows * group_size :][:group_size]  # [C/G,H+K-1,W+K-1]
            taps = [(i, y, z) for i in range(group_size) for y in range(size) for z in range(size)]
            maps.append(sum(kernel[o, i, y, z] * group[i, y : y + height, z : z + width] for i, y, z in taps))
        samples.append(torch.stack(maps))
    out = torch.stack(samples)
    return out if bias is None else out + bias[:, :, None, None]


def inputs(
    n: int, channels: int, out_channels: int, group_size: int, size: int, side: int = 6
) -> list[Tensor]:
    torch.manual_seed(0)
    x = torch.randn(n, channels, side, side + 1, dtype=torch.float64) + 0.5
    weight = torch.randn(n, out_channels, group_size, size, size, dtype=torch.float64)
    bias = torch.randn(n, out_channels, dtype=torch.float64)
    return [t.requires_grad_() for t in (x, weight, bias)]


def results(out: Tensor, args: list[Tensor]) -> list[Tensor]:
    """The output and the gradients of a scalar that weighs every element differently."""
    weights = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).reshape(out.shape)
    return [out, *torch.autograd.grad((out * weights).sum(), args)]


@pytest.mark.parametrize("norm_eps", [None, 1e-5])
@pytest.mark.parametrize(
    ("n", "channels", "out_channels", "group_size", "size"),
    [
        (2, 8, 8, 1, 3),  # depthwise
        (3, 8, 8, 2, 3),  # groups merged by four
        (3, 6, 6, 2, 5),  # nine groups, merged by three
        (1, 8, 8, 4, 1),
        (2, 6, 6, 6, 3),  # one group
        (2, 8, 4, 2, 3),  # fewer outputs than inputs
        (2, 4, 8, 1, 3),  # two outputs per channel
    ],
)
@pytest.mark.parametrize("impl", IMPLS)
def test_every_form_equals_a_sum_over_taps(
    impl: ConvImpl,
    n: int,
    channels: int,
    out_channels: int,
    group_size: int,
    size: int,
    norm_eps: float | None,
) -> None:
    args = inputs(n, channels, out_channels, group_size, size)
    got = results(per_sample_conv2d(*args, norm_eps=norm_eps, impl=impl), args)
    want = results(expected(*args, norm_eps), args)
    for g, w in zip(got, want, strict=True):
        torch.testing.assert_close(g, w, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("impl", IMPLS)
def test_float32_keeps_four_digits(impl: ConvImpl) -> None:
    args = inputs(2, 16, 16, 4, 3, side=24)
    single = [t.detach().float().requires_grad_() for t in args]
    got = results(per_sample_conv2d(*single, norm_eps=1e-5, impl=impl), single)
    want = results(per_sample_conv2d(*args, norm_eps=1e-5, impl="loop"), args)
    for g, w in zip(got, want, strict=True):
        assert g.dtype == torch.float32
        assert (g.double() - w).abs().max() <= 1e-4 * w.abs().max()


def test_normalisation_survives_a_mean_far_above_the_deviation() -> None:
    args = inputs(2, 8, 8, 2, 3, side=16)
    x, weight, bias = (t.detach() for t in args)
    x = (x + 300).float()  # float32 holds x to 3e-5, and nothing may be lost beyond that
    want = expected(x.double(), weight, bias, 1e-5)
    got = per_sample_conv2d(x, weight.float(), bias.float(), norm_eps=1e-5)
    assert (got - want).abs().max() <= 2e-4 * want.abs().max()


@pytest.mark.parametrize("chunk_channels", [1, 3, 5, 100])
def test_chunks_of_any_size_give_the_same_result(
    chunk_channels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    args = inputs(3, 12, 12, 2, 3)
    monkeypatch.setattr(per_sample_conv, "_CHUNK_BYTES", chunk_channels * 6 * 7 * 8)
    got = per_sample_conv2d(*args, norm_eps=1e-5, impl="chunks")
    torch.testing.assert_close(got, expected(*args, 1e-5), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("group_size", [1, 2])
def test_first_and_second_derivatives(impl: ConvImpl, group_size: int) -> None:
    torch.manual_seed(0)
    args = [
        torch.randn(shape, dtype=torch.float64, requires_grad=True)
        for shape in [(2, 2, 3, 3), (2, 2, group_size, 3, 3), (2, 2)]
    ]

    def run(*tensors: Tensor) -> Tensor:
        return per_sample_conv2d(*tensors, norm_eps=1e-2, impl=impl)

    assert torch.autograd.gradcheck(run, args, fast_mode=True)
    assert torch.autograd.gradgradcheck(run, args, fast_mode=True)


@pytest.mark.parametrize("impl", IMPLS)
def test_without_bias(impl: ConvImpl) -> None:
    x, weight, _ = inputs(2, 4, 4, 2, 3)
    got = per_sample_conv2d(x, weight, impl=impl)
    torch.testing.assert_close(got, expected(x, weight, None, None), rtol=1e-10, atol=1e-10)


def test_samples_do_not_reach_each_other() -> None:
    args = inputs(3, 6, 6, 2, 3)
    with torch.no_grad():
        before = per_sample_conv2d(*args, norm_eps=1e-5, impl="chunks")
        args[0][1] += torch.randn_like(args[0][1])
        args[1][1] *= 3
        after = per_sample_conv2d(*args, norm_eps=1e-5, impl="chunks")
    assert torch.equal(before[[0, 2]], after[[0, 2]])
    assert not torch.allclose(before[1], after[1])


def test_channels_last_input_gives_the_same_result() -> None:
    x, weight, bias = inputs(2, 8, 8, 2, 3)
    args = [x.detach().contiguous(memory_format=torch.channels_last).requires_grad_(), weight, bias]
    out = per_sample_conv2d(*args, norm_eps=1e-5)
    assert out.is_contiguous(memory_format=torch.channels_last)
    want = results(expected(x, weight, bias, 1e-5), [x, weight, bias])
    for g, w in zip(results(out, args), want, strict=True):
        torch.testing.assert_close(g, w, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("impl", IMPLS)
def test_bfloat16_stays_within_its_rounding(impl: ConvImpl) -> None:
    args = inputs(2, 8, 8, 2, 3, side=16)
    half = [t.detach().bfloat16() for t in args]
    got = per_sample_conv2d(*half, norm_eps=1e-5, impl=impl)
    want = expected(*(t.double() for t in half), 1e-5)
    assert got.dtype == torch.bfloat16
    assert (got - want).abs().max() <= 0.02 * want.abs().max()


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("mean", [1.0, 10.0, 30.0])
@pytest.mark.parametrize("autocast", [False, True])
def test_bfloat16_normalises_before_it_rounds(
    layout: torch.memory_format, mean: float, autocast: bool
) -> None:
    """Means above the deviation must not reach the convolution, where half precision cannot subtract them."""
    x, weight, bias = (t.detach() for t in inputs(2, 16, 16, 4, 3, side=24))
    x = x + mean
    x = (x.float() if autocast else x.bfloat16()).contiguous(memory_format=layout)
    dtype = torch.float32 if autocast else torch.bfloat16
    args = [x.requires_grad_(), *(t.to(dtype).requires_grad_() for t in (weight, bias))]
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        got = results(per_sample_conv2d(*args, norm_eps=1e-5), args)
    exact = [t.detach().double().requires_grad_() for t in args]
    want = results(expected(*exact, 1e-5), exact)
    for g, w in zip((got[0], *got[2:]), (want[0], *want[2:]), strict=True):  # x's gradient is mostly rounding
        assert (g.double() - w).abs().max() <= 0.02 * w.abs().max()


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_constant_image_becomes_the_bias(layout: torch.memory_format, dtype: torch.dtype) -> None:
    x, weight, bias = (t.detach().to(dtype) for t in inputs(2, 16, 16, 4, 3, side=24))
    x = torch.full_like(x, 3.3).contiguous(memory_format=layout)
    out = per_sample_conv2d(x, weight, bias, norm_eps=1e-5)
    # Where nothing varies, rounding of the mean is multiplied by 1 / sqrt(eps) = 316.
    assert (out - bias[:, :, None, None]).abs().max() <= 0.1


@pytest.mark.parametrize("impl", ["auto", "shifted"])
def test_compiled_equals_eager(impl: ConvImpl) -> None:
    args = [t.detach().float().requires_grad_() for t in inputs(2, 4, 4, 2, 3)]
    torch._dynamo.reset()
    compiled = torch.compile(per_sample_conv2d, fullgraph=True, backend="aot_eager")
    got = results(compiled(*args, norm_eps=1e-5, impl=impl), args)
    want = results(per_sample_conv2d(*args, norm_eps=1e-5, impl="loop"), args)
    for g, w in zip(got, want, strict=True):
        torch.testing.assert_close(g, w, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_compiled_by_inductor_equals_eager() -> None:
    args = [t.detach().float().requires_grad_() for t in inputs(2, 4, 4, 2, 3)]
    torch._dynamo.reset()
    got = results(torch.compile(per_sample_conv2d)(*args, norm_eps=1e-5), args)
    want = results(per_sample_conv2d(*args, norm_eps=1e-5, impl="loop"), args)
    for g, w in zip(got, want, strict=True):
        torch.testing.assert_close(g, w, rtol=1e-4, atol=1e-4)


@pytest.mark.gpu
@pytest.mark.parametrize("impl", IMPLS)
def test_every_form_on_a_gpu(impl: ConvImpl) -> None:
    args = [t.detach().cuda().requires_grad_() for t in inputs(3, 8, 8, 2, 3)]
    got = per_sample_conv2d(*args, norm_eps=1e-5, impl=impl)
    want = expected(*(t.cpu() for t in args), 1e-5)
    torch.testing.assert_close(got.cpu(), want, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("x_shape", "weight_shape", "impl", "message"),
    [
        ((2, 4, 6, 6), (2, 4, 2, 3, 3), "fastest", "unknown impl 'fastest'"),
        ((2, 4, 6, 6), (3, 4, 2, 3, 3), "auto", "same N"),
        ((2, 4, 6, 6), (2, 4, 2, 2, 2), "auto", "square and odd"),
        ((2, 4, 6, 6), (2, 4, 3, 3, 3), "auto", "groups of 3"),
        ((2, 4, 6, 6), (2, 3, 2, 3, 3), "auto", "3 outputs"),
        ((2, 4, 2, 6), (2, 4, 2, 5, 5), "auto", "too small for reflect padding by 2"),
    ],
)
def test_what_does_not_fit_is_named(
    x_shape: tuple[int, ...], weight_shape: tuple[int, ...], impl: ConvImpl, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        per_sample_conv2d(torch.zeros(x_shape), torch.zeros(weight_shape), impl=impl)
