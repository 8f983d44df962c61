"""Interface between a network with modulated layers (a host) and a modulation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from torch import Tensor, nn

from ganmod.layers import PaddingMode, StaticConv2d, fold_gains
from ganmod.modulation.statistics import Statistics

StyleKind = Literal["vector", "map", "features", "mask", "id"]


@dataclass(frozen=True)
class StyleSpec:
    """The style that a host supplies to its modulations.

    Args:
        kind: vector [N,dim] (a mapping network's w, a StarGAN v2 style code), map [N,dim,size,size] (a style
            encoder's descriptor W), features [N,dim,H,W] (a frozen encoder's, of a style image), id [N,dim]
            (the weights of dim learned styles, 1 for the one that is meant), or mask.
        host_width: channels of the host's widest modulated layer, AdaConv's default kernel budget; 0 for a
            host with a single width.
    """

    kind: StyleKind
    dim: int
    size: int = 1
    host_width: int = 0


class Modulation(nn.Module):
    """How a style modulates one convolution. Override `predict`, and `modulate` or `convolve` or both.

    A host calls `predict` once per style and then `modulate` and `convolve` per image, so parameters can be
    cached, interpolated between styles, mixed per layer, inspected and exported. Tiles and clips need
    `uses_statistics`, `reach` and `modulate_with`.

    Attributes:
        uses_statistics: whether `modulate` depends on its input's mean and variance.
        reach: radius of `modulate`'s receptive field in pixels.
        normalizes_outputs: whether the result of `convolve` is independent of the scale of input and weight.
        needs_whole_image: whether `modulate` needs all of an image: it has then neither tiles nor clips.
        mixes: whether parameters between those of two styles make a style.
    """

    style_kinds: ClassVar[tuple[StyleKind, ...]] = ("vector", "map")
    uses_statistics: bool
    reach: int
    normalizes_outputs: bool
    needs_whole_image: bool
    mixes: bool

    def __init__(self, channels: int, style: StyleSpec) -> None:
        """channels: input channels of the convolution, on which every modulation acts."""
        super().__init__()
        if style.kind not in self.style_kinds:
            raise ValueError(
                f"{type(self).__name__} needs a style of kind {' or '.join(self.style_kinds)}, "
                f"but the host supplies {style.kind!r}: choose another modulation"
            )
        self.channels = channels
        self.style = style
        self.uses_statistics = type(self).modulate is not Modulation.modulate
        self.reach = 0
        self.normalizes_outputs = False
        self.needs_whole_image = False
        self.mixes = True

    @property
    def convolves_plainly(self) -> bool:
        """Whether `convolve` is the static convolution, whatever the parameters."""
        return type(self).convolve is Modulation.convolve

    def use_plain_gains(self) -> None:
        """For a host without equalised learning rates: fold this modulation's gains, see `fold_gains`."""
        fold_gains(self)

    def use_exportable_form(self, *, any_batch: bool = True, padding_mode: PaddingMode = "reflect") -> None:
        """For export to other programs: compute the same in a form that their formats can hold.

        Args:
            any_batch: for any number of samples: no convolution's `groups` depends on it. False: for one.
            padding_mode: "zeros" where a runtime has no reflection padding; results change at the borders.
        """

    def predict(self, style: Tensor) -> Any:
        """Style -> the parameters: a NamedTuple of tensors whose first axis is N.

        style: [N,dim], [N,dim,S,S] or [N,dim,H,W], by its kind.
        """
        raise NotImplementedError(f"{type(self).__name__} must override predict()")

    def modulate(self, x: Tensor, params: Any) -> Tensor:
        """Features before the convolution, [N,C,H,W] -> [N,C,H,W]."""
        return x

    def modulate_with(self, x: Tensor, params: Any, statistics: Statistics) -> Tensor:
        """`modulate` with these statistics in place of x's, where x is a tile or a frame of a clip.

        Raises ValueError where a subclass overrides `modulate` without this method.
        """
        check_modulate_with(self)
        return x

    def convolve(self, x: Tensor, conv: StaticConv2d, params: Any) -> Tensor:
        """The convolution itself, [N,C,H,W] -> [N,O,H',W'], without its bias."""
        return conv(x)


def check_modulate_with(modulation: Modulation) -> None:
    """Raise ValueError where `modulate` needs all of an image, or is overridden without `modulate_with`."""
    if modulation.needs_whole_image:
        raise ValueError(
            f"{type(modulation).__name__} needs all of an image at once: stylise it without tiles, and clips "
            "with --smoothing 0"
        )
    order = type(modulation).__mro__
    home = {name: next(c for c in order if name in vars(c)) for name in ("modulate", "modulate_with")}
    if order.index(home["modulate"]) < order.index(home["modulate_with"]):
        raise ValueError(
            f"{home['modulate'].__name__} overrides modulate(), but not modulate_with(), which tiles and "
            "clips need: add modulate_with(self, x, params, statistics), the same with a given mean and "
            "variance"
        )


def check_style(style: Tensor, spec: StyleSpec) -> None:
    """Raise ValueError unless style has the shape of `spec`; features may have any size."""
    if spec.kind == "features":
        if style.ndim != 4 or style.shape[1] != spec.dim:
            raise ValueError(f"style has shape {list(style.shape)}, expected [N, {spec.dim}, H, W]")
        return
    expected = [spec.dim] if spec.kind in ("vector", "id") else [spec.dim, spec.size, spec.size]
    if list(style.shape[1:]) != expected:
        raise ValueError(
            f"style has shape {list(style.shape)}, expected [N, {', '.join(map(str, expected))}]"
        )


def pool_style(style: Tensor) -> Tensor:
    """[N,D] -> itself; [N,D,S,S] -> its spatial mean [N,D]."""
    return style if style.ndim == 2 else style.mean(dim=(2, 3))
