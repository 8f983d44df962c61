"""The widely used PyTorch AdaIN weights (decoder.pth, vgg_normalised.pth) as a classic model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from ganmod.features.vgg import LAYERS, NORMALISED_INDEX, VGG19_WIDTHS, vgg19_from_state
from ganmod.io.pickles.restricted_unpickle import read_tensors_pickle
from ganmod.layers import Conv2d
from style_transfer.model import StyleTransferModel
from style_transfer.networks.classic_host import ClassicDecoder
from style_transfer.spec import ModelSpec

# Indices of the convolutions in decoder.pth's nn.Sequential, between paddings, ReLUs and upsamplings.
DECODER_INDEX = (1, 5, 8, 11, 14, 18, 21, 25, 28)
_MAX_LISTED = 5


class ImportAdainError(ValueError):
    """A file is not the one expected; the message names it, what it lacks and what to do."""


def import_adain(decoder: Path, vgg: Path) -> StyleTransferModel:
    """Build the classic AdaIN model (Huang & Belongie 2017) from decoder.pth and vgg_normalised.pth.

    It computes what the files' networks compute, for images whose sides are multiples of 8: our decoder's
    runtime gains are divided out of its weights. Nothing in the files is executed.

    Raises:
        ImportAdainError: for swapped files, missing tensors and wrong shapes.
        ModelFileError: for a file that is no PyTorch checkpoint.
        UnsafePickleError: for a file that holds more than tensors.
    """
    states = {path: _read_state(path) for path in (decoder, vgg)}
    if _is_encoder(states[decoder]) and not _is_encoder(states[vgg]):
        raise ImportAdainError(
            f"{decoder} is the encoder (it has 0.weight) and {vgg} is not: give decoder.pth first, "
            "vgg_normalised.pth second"
        )
    template = ClassicDecoder(VGG19_WIDTHS)
    convs = _convolutions(template)
    expected = {
        f"{i}.{part}": tensor.shape
        for i, conv in zip(DECODER_INDEX, convs, strict=True)
        for part, tensor in (("weight", conv.conv.weight), ("bias", conv.bias))
    }
    _check_tensors(states[decoder], expected, decoder, "decoder.pth")
    _check_tensors(states[vgg], _encoder_shapes(), vgg, "vgg_normalised.pth")

    encoder = vgg19_from_state(states[vgg], source=str(vgg))
    encoder.rms[LAYERS.index("relu4_1")] = 1.0  # this decoder was trained on plain features
    model = StyleTransferModel(ModelSpec("vgg19", VGG19_WIDTHS, architecture="classic"), encoder)
    _copy_decoder(states[decoder], cast(ClassicDecoder, model.decoder))
    return model.eval()


@torch.no_grad()
def _copy_decoder(state: Mapping[str, Tensor], decoder: ClassicDecoder) -> None:
    """Copy weights, scaled so that our layers, with their gains, compute the same relu(conv(x))."""
    for i, layer in zip(DECODER_INDEX, _convolutions(decoder), strict=True):
        weight, bias = state[f"{i}.weight"].float(), state[f"{i}.bias"].float()
        if layer is decoder.to_rgb:  # out = output_gain * (gain W x + b) + output_offset
            weight, bias = weight / decoder.output_gain, (bias - decoder.output_offset) / decoder.output_gain
        else:  # out = activation_gain * relu(gain W x + b)
            activation_gain = layer.activation.gain  # type: ignore[union-attr]
            weight, bias = weight / activation_gain, bias / activation_gain
        layer.conv.weight.copy_(weight / layer.conv.gain)
        layer.bias.copy_(bias)


def _convolutions(decoder: ClassicDecoder) -> list[Conv2d]:
    """The nine convolutions of the classic decoder in running order."""
    layers = []
    for first, rest in zip(decoder.first, decoder.rest, strict=True):
        for layer in (first, *rest.children()):
            assert isinstance(layer, Conv2d)
            layers.append(layer)
    return [*layers, decoder.to_rgb]


def _encoder_shapes() -> dict[str, torch.Size]:
    """Shapes of the tensors that are read from vgg_normalised.pth, which holds deeper layers too."""
    shapes = {"0.weight": torch.Size((3, 3, 1, 1)), "0.bias": torch.Size((3,))}
    channels = 3
    for name, i in NORMALISED_INDEX.items():
        width = VGG19_WIDTHS[int(name[0]) - 1]
        shapes[f"{i}.weight"], shapes[f"{i}.bias"] = torch.Size((width, channels, 3, 3)), torch.Size((width,))
        channels = width
    return shapes


def _read_state(path: Path) -> Mapping[str, Any]:
    state = read_tensors_pickle(path)
    if not isinstance(state, Mapping):
        raise ImportAdainError(
            f"{path} holds a {type(state).__name__}, expected a state dict: decoder.pth or vgg_normalised.pth"
        )
    return state


def _is_encoder(state: Mapping[str, Any]) -> bool:
    """vgg_normalised.pth begins with a convolution, decoder.pth with a padding, which has no weight."""
    return "0.weight" in state


def _check_tensors(
    state: Mapping[str, Any], expected: Mapping[str, torch.Size], path: Path, file_name: str
) -> None:
    """Raise ImportAdainError unless the state holds tensors of all these names and shapes."""
    missing = [name for name in expected if not isinstance(state.get(name), Tensor)]
    unfitting = [
        f"{name} (got {list(state[name].shape)}, expected {list(shape)})"
        for name, shape in expected.items()
        if name not in missing and state[name].shape != shape
    ]
    problems = [
        f"{title} {', '.join(names[:_MAX_LISTED])}" + (f" and {more} more" if more > 0 else "")
        for title, names in (("missing:", missing), ("wrong shape:", unfitting))
        if names
        for more in (len(names) - _MAX_LISTED,)
    ]
    if problems:
        raise ImportAdainError(
            f"{path} is not the {file_name} of the PyTorch AdaIN weights; {'; '.join(problems)}; its first "
            f"names are {', '.join(map(str, list(state)[:3])) or 'none'}. Give the original file"
        )
