"""Convolution with separate kernels for each sample, in several forms that give the same result.

Samples and groups are one axis here: N samples of C channels in G groups are N * G independent small
convolutions over the N * C channels of a single image. The forms differ in how many of them share a call:

  loop      one convolution per sample: the obvious form.
  grouped   one convolution for the batch: fewest launches.
  samples   one call per sample, channels last, adjacent small groups merged into a block-diagonal one.
  chunks    a few megabytes of channels per call, groups merged likewise.
  unfold    patches as columns, one batched matrix product: few launches, K * K times the memory.
  shifted   K * K * C/G multiply-adds of shifted images: elementwise work only, for a compiler that fuses it.
  matmul    patches from one convolution with one-hot kernels, then a batched matrix product; samples stay a
            separate axis, for formats such as ONNX in which groups cannot depend on the batch.

"auto" takes samples on a CPU if x is channels-last, else chunks; on other devices grouped (fewest launches,
not measured). Timings of AdaConv with batch 4, one thread of a 2-core machine with AVX-512, forward +
backward, minimum of 4 in ms (interleaved, with other work on the machine: compare the ratios):

  channels, side, group size                  512,32,1   256,64,2   128,128,4   64,256,8
  float32    two convolutions, loop                  78        160         357        597
             two kernels composed, loop             32        113         228        319
             chunks                                 26         55         155        325
             samples, channels last                 19         67         131        291
  bfloat16   two convolutions, loop                  45        163         246        572
             two kernels composed, loop             22        138         225        564
             chunks                                 21         90         217        589
             samples, channels last                 14         47         142        420

oneDNN falls back to slow kernels for groups of 2 to 7 channels (the weight gradient of 256 x 64 x 64: 34 ms
with groups of 2, 13 ms with groups of 8). Buffers above about ten megabytes are returned to the system after
every call, and cost a page fault per 4 KiB in the next one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from ganmod.layers import PaddingMode, reflect_pad
from ganmod.modulation.functional import normalize_instances
from ganmod.modulation.statistics import instance_norm

ConvImpl = Literal["auto", "loop", "grouped", "samples", "chunks", "unfold", "shifted", "matmul"]

_MERGED_CHANNELS = 8  # channels per merged group: oneDNN's fast kernels begin here; 16 took a third longer
_CHUNK_BYTES = 4 << 20  # input per call: convolutions on 16 MiB took up to twice as long
_COMPILED_CHUNK_BYTES = 16 << 20  # a traced loop is unrolled: fewer and larger steps keep compilation short


def per_sample_conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    norm_eps: float | None = None,
    impl: ConvImpl = "auto",
    padding_mode: PaddingMode = "reflect",
) -> Tensor:
    """Convolve sample n of x with weight[n], padded -> [N,O,H,W].

    Args:
        x: [N,C,H,W].
        weight: [N,O,C/G,K,K] in G groups, K odd.
        bias: [N,O].
        norm_eps: instance-normalise x first, (x - mean) / sqrt(var + norm_eps), part by part while the part
            is in the cache; None does not.
        impl: the form, see this module's description.
        padding_mode: "reflect", or "zeros" after the normalisation.

    Raises:
        ValueError: for an unknown form and for shapes that do not fit together.
    """
    _check(x, weight, impl, padding_mode)
    n, channels, height, width = x.shape
    out_channels, group_size, size = weight.shape[1], weight.shape[2], weight.shape[3]
    if impl == "auto":
        impl = _choose(x)
    if impl == "samples":
        return _samples(x, weight, bias, norm_eps, padding_mode)
    if impl == "matmul":
        return _matmul(x, weight, bias, norm_eps, padding_mode)

    groups = n * channels // group_size
    merge, step = 1, groups
    if impl == "loop":
        step = groups // n
    elif impl == "chunks":
        merge = _merge_factor(groups, group_size, weight.shape[0] * out_channels // groups)
        bytes_per_group = merge * group_size * height * width * x.element_size()
        step = merge * _groups_per_chunk(groups // merge, bytes_per_group)
    convolve = _FORMS.get(impl, _conv2d)

    rows = n * out_channels // groups  # output channels of a group
    outputs = []
    joined, kernels = (
        x.reshape(1, n * channels, height, width),
        weight.reshape(n * out_channels, group_size, size, size),
    )
    biases = None if bias is None else bias.reshape(-1)
    for start in range(0, groups, step):
        part, kernel, shift = joined, kernels, biases
        if step < groups:
            part = joined[:, start * group_size : (start + step) * group_size]
            kernel = kernels[start * rows : (start + step) * rows]
            shift = None if biases is None else biases[start * rows : (start + step) * rows]
        if norm_eps is not None:
            part = instance_norm(part, eps=norm_eps)
        if size > 1:
            part = _pad(part, size // 2, padding_mode)
        kernel = _block_diagonal(kernel, merge, rows)
        outputs.append(convolve(part, kernel, shift))
    out = torch.cat(outputs, dim=1) if len(outputs) > 1 else outputs[0]
    return out.reshape(n, out_channels, height, width)


def _pad(x: Tensor, pad: int, mode: PaddingMode) -> Tensor:
    return reflect_pad(x, pad) if mode == "reflect" else F.pad(x, (pad,) * 4)


def _check(x: Tensor, weight: Tensor, impl: str, padding_mode: PaddingMode) -> None:
    if impl not in get_args(ConvImpl):
        raise ValueError(f"unknown impl {impl!r}: expected one of {', '.join(get_args(ConvImpl))}")
    if x.ndim != 4 or weight.ndim != 5 or x.shape[0] != weight.shape[0]:
        raise ValueError(
            f"x is {list(x.shape)} and weight {list(weight.shape)}, "
            "expected [N,C,H,W] and [N,O,C/G,K,K] with the same N"
        )
    channels, (out_channels, group_size, size, size_x) = x.shape[1], weight.shape[1:]
    if size != size_x or size % 2 == 0:
        raise ValueError(f"kernels are {size} x {size_x}, expected square and odd: 1, 3, 5 ...")
    if channels % group_size or out_channels % (channels // group_size):
        raise ValueError(
            f"{channels} channels and {out_channels} outputs do not divide into groups of {group_size}, "
            "expected weight [N,O,C/G,K,K] with C and O multiples of G"
        )
    if padding_mode == "reflect" and min(x.shape[2:]) <= size // 2:
        raise ValueError(
            f"x is {x.shape[2]} x {x.shape[3]}, too small for reflect padding by {size // 2}: "
            f"expected more than {size // 2} on both sides, use larger images or a smaller kernel"
        )


def _merge_factor(groups: int, group_size: int, rows: int) -> int:
    """How many adjacent groups one block-diagonal group replaces: a divisor of groups; 1 if depthwise."""
    if group_size == 1 and rows == 1:
        return 1  # oneDNN has a special kernel for depthwise convolutions
    limit = max(_MERGED_CHANNELS // group_size, 1)
    return max(m for m in range(1, limit + 1) if groups % m == 0)


def _groups_per_chunk(groups: int, bytes_per_group: int) -> int:
    """Groups per call: calls of about equal size, none much larger than a chunk."""
    budget = _COMPILED_CHUNK_BYTES if torch.compiler.is_compiling() else _CHUNK_BYTES
    calls = -(-groups // max(budget // bytes_per_group, 1))
    return -(-groups // calls)


def _choose(x: Tensor) -> ConvImpl:
    if x.device.type != "cpu":
        return "grouped"
    channels_last = x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
    return "samples" if channels_last else "chunks"


def _samples(
    x: Tensor, weight: Tensor, bias: Tensor | None, norm_eps: float | None, padding_mode: PaddingMode
) -> Tensor:
    """Form "samples"; arguments and result as in `per_sample_conv2d`."""
    n, channels = x.shape[:2]
    out_channels, group_size, size = weight.shape[1:4]
    groups = channels // group_size
    rows = out_channels // groups
    merge = _merge_factor(groups, group_size, rows)
    x = x.contiguous(memory_format=torch.channels_last)
    if norm_eps is not None:
        x = instance_norm(x, eps=norm_eps)
    if size > 1:
        x = _pad(x, size // 2, padding_mode)
    kernels = _block_diagonal(weight.flatten(0, 1), merge, rows).unflatten(0, (n, -1))
    shifts = [None] * n if bias is None else bias.unbind()
    outputs = [
        F.conv2d(sample, kernel, shift, groups=groups // merge)
        for sample, kernel, shift in zip(x.split(1), kernels, shifts, strict=True)
    ]
    return torch.cat(outputs) if n > 1 else outputs[0]


def _matmul(
    x: Tensor, weight: Tensor, bias: Tensor | None, norm_eps: float | None, padding_mode: PaddingMode
) -> Tensor:
    """Form "matmul"; arguments and result as in `per_sample_conv2d`."""
    n, channels, height, width = x.shape
    out_channels, group_size, size = weight.shape[1:4]
    groups = channels // group_size
    if norm_eps is not None:
        x = normalize_instances(x, eps=norm_eps)
    patches = x
    if size > 1:  # a convolution with one-hot kernels: a single node of a graph
        one_hot = torch.eye(size * size, dtype=x.dtype, device=x.device).reshape(-1, 1, size, size)
        x = _pad(x, size // 2, padding_mode)
        patches = F.conv2d(x, one_hot.repeat(channels, 1, 1, 1), groups=channels)  # [N,C*K*K,H,W]
    columns = patches.reshape(n, groups, group_size * size * size, height * width)
    out = weight.reshape(n, groups, out_channels // groups, -1) @ columns
    if bias is not None:
        out = out + bias.reshape(n, groups, -1, 1)
    return out.reshape(n, out_channels, height, width)  # from [N,G,O/G,HW]


def _block_diagonal(weight: Tensor, merge: int, rows: int) -> Tensor:
    """[O,g,K,K], `rows` outputs per group -> [O,merge*g,K,K]: `merge` groups as one, zero off the blocks."""
    if merge == 1:
        return weight
    out_channels, group_size, size, _ = weight.shape
    blocks = torch.eye(merge, dtype=weight.dtype, device=weight.device)[:, None, :, None, None, None]
    weight = weight.reshape(-1, merge, rows, 1, group_size, size, size) * blocks
    return weight.reshape(out_channels, merge * group_size, size, size)


def _conv2d(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Padded x [1,C,H+K-1,W+K-1], weight [O,C/G,K,K], bias [O] -> [1,O,H,W], as in the forms below."""
    return F.conv2d(x, weight, bias, groups=x.shape[1] // weight.shape[1])


def _unfold(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    out_channels, group_size, size, _ = weight.shape
    height, width = x.shape[2] - size + 1, x.shape[3] - size + 1
    groups = x.shape[1] // group_size
    columns = F.unfold(x, size).reshape(groups, group_size * size * size, height * width)
    out = torch.bmm(weight.reshape(groups, out_channels // groups, -1), columns)
    out = out.reshape(1, out_channels, height, width)
    return out if bias is None else out + bias[:, None, None]


def _shifted(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    out_channels, group_size, size, _ = weight.shape
    height, width = x.shape[2] - size + 1, x.shape[3] - size + 1
    groups = x.shape[1] // group_size
    x = x.reshape(groups, 1, group_size, x.shape[2], x.shape[3])
    weight = weight.reshape(groups, out_channels // groups, group_size, size, size, 1, 1)
    out = x.new_zeros(()) if bias is None else bias.reshape(groups, -1, 1, 1)
    for channel in range(group_size):
        for dy in range(size):
            for dx in range(size):
                window = x[:, :, channel, dy : dy + height, dx : dx + width]  # [G,1,H,W]
                out = out + weight[:, :, channel, dy, dx] * window
    return out.reshape(1, out_channels, height, width)


_Form = Callable[[Tensor, Tensor, Tensor | None], Tensor]
_FORMS: dict[str, _Form] = {"unfold": _unfold, "shifted": _shifted}
