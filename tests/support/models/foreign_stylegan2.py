"""If this is wrong, tests of imported StyleGAN2 weights read files of another form than the official ones.

Random small networks, each a tree of `Layer`. `Layer.tensors()` returns its values for the formulas of
`stylegan2_formulas`; `ada_pickle` writes networks as the official code does.
"""

from __future__ import annotations

import pickle
import sys
import types
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from stylegan2_formulas import FIR, WIDTHS
from torch import Tensor, nn

Z_DIM, W_DIM = 10, 14


@dataclass
class Layer:
    class_name: str
    parameters: dict[str, Tensor] = field(default_factory=dict)
    buffers: dict[str, Tensor] = field(default_factory=dict)
    children: dict[str, Layer] = field(default_factory=dict)
    attributes: dict[str, Any] = field(default_factory=dict)

    def tensors(self) -> dict[str, Tensor]:
        """As in a state_dict, float64."""
        tensors = {name: tensor.double() for name, tensor in (self.parameters | self.buffers).items()}
        for name, child in self.children.items():
            tensors |= {f"{name}.{key}": tensor for key, tensor in child.tensors().items()}
        return tensors

    def layer(self, path: str) -> Layer:
        child = self
        for name in path.split("."):
            child = child.children[name]
        return child


# The networks. Biases and strengths are not zero, which would hide mix-ups.


def linear(fan_in: int, fan_out: int, activation: str = "linear", *, lr: float = 1.0, start: float = 0.0):
    return Layer(
        "FullyConnectedLayer",
        {"weight": torch.randn(fan_out, fan_in) / lr, "bias": start + 0.3 * torch.randn(fan_out) / lr},
        attributes={
            "activation": activation,
            "weight_gain": np.float64(lr / np.sqrt(fan_in)),
            "bias_gain": lr,
        },
    )


def conv(fan_in: int, fan_out: int, size: int, activation: str, *, clamp: float | None, bias: bool = True):
    return Layer(
        "Conv2dLayer",
        {"weight": torch.randn(fan_out, fan_in, size, size)}
        | ({"bias": 0.3 * torch.randn(fan_out)} if bias else {}),
        {"resample_filter": FIR.float()},
        attributes={"activation": activation, "conv_clamp": clamp, "act_gain": np.float64(2**0.5)},
    )


def mapping(
    z_dim: int, c_dim: int, w_dim: int, layers: int, *, lr: float = 0.01, w_avg: bool = True
) -> Layer:
    network = Layer(
        "MappingNetwork", attributes={"num_layers": layers, "w_avg_beta": 0.995 if w_avg else None}
    )
    if c_dim:
        network.children["embed"] = linear(c_dim, w_dim)
    fan_in = z_dim + (w_dim if c_dim else 0)
    for i in range(layers):
        network.children[f"fc{i}"] = linear(fan_in, w_dim, "lrelu", lr=lr)
        fan_in = w_dim
    if w_avg:
        network.buffers["w_avg"] = 0.5 * torch.randn(w_dim)
    return network


def generator(
    *,
    architecture: str = "skip",
    c_dim: int = 0,
    mapping_layers: int = 2,
    mapping_lr: float = 0.01,
    clamp: float | None = None,
    use_noise: bool = True,
    num_half: int = 0,
) -> Layer:
    def synthesis_layer(fan_in: int, fan_out: int, resolution: int) -> Layer:
        layer = conv(fan_in, fan_out, 3, "lrelu", clamp=clamp)
        layer.class_name = "SynthesisLayer"
        layer.children["affine"] = linear(W_DIM, fan_in, start=1.0)
        if use_noise:
            layer.parameters["noise_strength"] = torch.randn([])
            layer.buffers["noise_const"] = torch.randn(resolution, resolution)
        return layer

    synthesis = Layer(
        "SynthesisNetwork", attributes={"_init_kwargs": {"channel_base": 128, "channel_max": 12}}
    )
    below = 0
    for resolution, width in WIDTHS.items():
        block = Layer("SynthesisBlock", buffers={"resample_filter": FIR.float()})
        block.attributes = {
            "architecture": architecture,
            "use_fp16": resolution > max(WIDTHS) >> num_half,
            "resolution": resolution,
        }
        if below:
            block.children["conv0"] = synthesis_layer(below, width, resolution)
        else:
            block.parameters["const"] = torch.randn(width, 4, 4)
        block.children["conv1"] = synthesis_layer(width, width, resolution)
        if architecture == "skip" or resolution == max(WIDTHS):
            torgb = Layer("ToRGBLayer", attributes={"conv_clamp": clamp})
            torgb.parameters = {"weight": torch.randn(3, width, 1, 1), "bias": 0.3 * torch.randn(3)}
            torgb.children["affine"] = linear(W_DIM, width, start=1.0)
            block.children["torgb"] = torgb
        if below and architecture == "resnet":
            block.children["skip"] = conv(below, width, 1, "linear", clamp=None, bias=False)
        synthesis.children[f"b{resolution}"] = block
        below = width
    return Layer(
        "Generator",
        children={
            "synthesis": synthesis,
            "mapping": mapping(Z_DIM, c_dim, W_DIM, mapping_layers, lr=mapping_lr),
        },
        attributes={
            "z_dim": Z_DIM,
            "c_dim": c_dim,
            "w_dim": W_DIM,
            "img_resolution": max(WIDTHS),
            "img_channels": 3,
        },
    )


def discriminator(
    *,
    architecture: str = "resnet",
    c_dim: int = 0,
    clamp: float | None = None,
    mapping_lr: float = 0.01,
    freeze: bool = False,
    group_size: int | None = 4,
) -> Layer:
    network = Layer("Discriminator", attributes={"_init_kwargs": {"channel_base": 128, "channel_max": 12}})
    network.attributes |= {"c_dim": c_dim, "img_resolution": max(WIDTHS), "img_channels": 3}
    for resolution, width in reversed(WIDTHS.items()):
        if resolution == 4:
            break
        block = Layer("DiscriminatorBlock", buffers={"resample_filter": FIR.float()})
        block.attributes = {"architecture": architecture, "use_fp16": False}
        if architecture == "skip" or resolution == max(WIDTHS):
            block.children["fromrgb"] = conv(3, width, 1, "lrelu", clamp=clamp)
        block.children["conv0"] = conv(width, width, 3, "lrelu", clamp=clamp)
        block.children["conv1"] = conv(width, WIDTHS[resolution // 2], 3, "lrelu", clamp=clamp)
        if architecture == "resnet":
            block.children["skip"] = conv(width, WIDTHS[resolution // 2], 1, "linear", clamp=None, bias=False)
        network.children[f"b{resolution}"] = block
    if freeze:  # frozen layers keep their weights as buffers
        frozen = network.children[f"b{max(WIDTHS)}"].children["conv0"]
        frozen.buffers, frozen.parameters = frozen.buffers | frozen.parameters, {}
    width = WIDTHS[4]
    epilogue = Layer("DiscriminatorEpilogue", attributes={"cmap_dim": width if c_dim else 0})
    if architecture == "skip":
        epilogue.children["fromrgb"] = conv(3, width, 1, "lrelu", clamp=None)
    deviation = Layer("MinibatchStdLayer", attributes={"group_size": group_size, "num_channels": 1})
    epilogue.children |= {
        "mbstd": deviation,
        "conv": conv(width + 1, width, 3, "lrelu", clamp=clamp),
        "fc": linear(width * 16, width, "lrelu"),
        "out": linear(width, width if c_dim else 1),
    }
    network.children["b4"] = epilogue
    if c_dim:
        network.children["mapping"] = mapping(0, c_dim, width, 3, lr=mapping_lr, w_avg=False)
    return network


# How the official code pickles.


class Persistent:
    """A network that pickles as its class's source and its attributes."""

    def __init__(self, layer: Layer, source: str) -> None:
        self.layer, self.source = layer, source

    def __reduce__(self) -> tuple[Any, ...]:
        layer = self.layer
        state = {
            "training": False,
            "_parameters": OrderedDict(
                (name, nn.Parameter(tensor, requires_grad=False)) for name, tensor in layer.parameters.items()
            ),
            "_buffers": OrderedDict(layer.buffers),
            "_non_persistent_buffers_set": set(),
            "_backward_hooks": OrderedDict(),
            "_modules": OrderedDict(
                (name, Persistent(child, self.source)) for name, child in layer.children.items()
            ),
            "_init_args": (),
            **layer.attributes,
        }
        if isinstance(state.get("_init_kwargs"), dict):  # fuzzing puts other values there
            state["_init_kwargs"] = sys.modules["dnnlib.util"].EasyDict(state["_init_kwargs"])
        meta = {
            "type": "class",
            "version": 6,
            "module_src": self.source,
            "class_name": layer.class_name,
            "state": state,
        }
        return sys.modules["torch_utils.persistence"]._reconstruct_persistent_obj, (meta,)


def install_official_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    """Install modules with the names in official pickles, to write such pickles; loading them runs code."""

    class EasyDict(dict):
        pass

    def _reconstruct_persistent_obj(meta: dict[str, Any]) -> Any:
        exec(meta["module_src"], {})
        return meta

    class Network:
        pass

    for module, thing in (
        ("torch_utils.persistence", _reconstruct_persistent_obj),
        ("dnnlib.util", EasyDict),
        ("dnnlib.tflib.network", Network),
    ):
        thing.__module__, thing.__qualname__ = module, thing.__name__
        fake = types.ModuleType(module)
        setattr(fake, thing.__name__, thing)
        monkeypatch.setitem(sys.modules, module, fake)
        for package in (module.split(".")[0], module.rpartition(".")[0]):
            if package not in sys.modules:
                monkeypatch.setitem(sys.modules, package, types.ModuleType(package))


def ada_pickle(
    networks: Mapping[str, Layer | None], *, source: str = "raise SystemExit", protocol: int = 4
) -> bytes:
    """network-snapshot-*.pkl; needs `install_official_modules`."""
    content = {
        name: None if layer is None else Persistent(layer, source) for name, layer in networks.items()
    } | {"augment_pipe": None, "training_set_kwargs": {"path": "images.zip", "resolution": 16}}
    return pickle.dumps(content, protocol=protocol)
