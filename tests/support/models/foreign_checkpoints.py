"""If this is wrong, tests read checkpoints of another form than those of rosinality or of StarGAN v2.

Random small networks under the names of the other code.
"""

from __future__ import annotations

import re
from typing import Any

import foreign_stylegan2 as foreign
import torch
from stylegan2_formulas import FIR
from tiny_starganv2 import build
from torch import Tensor, nn

from ganmod.starganv2 import Generator, MappingNetwork, StyleEncoder

DOMAINS = ("cat", "dog", "wild")
KERNEL = FIR.float()


def generator_state(layer: foreign.Layer) -> dict[str, Tensor]:
    """The same network under the names and in the shapes of the other code; w and z have one length there."""
    t = {name: tensor.float() for name, tensor in layer.tensors().items()}
    state = {"input.input": t["synthesis.b4.const"][None]}
    i = 0
    while f"mapping.fc{i}.weight" in t:
        for part in ("weight", "bias"):
            state[f"style.{i + 1}.{part}"] = t[f"mapping.fc{i}.{part}"]
        i += 1
    convs = ["b4.conv1", "b8.conv0", "b8.conv1", "b16.conv0", "b16.conv1"]
    for i, (theirs, ours) in enumerate(zip(["conv1", *(f"convs.{i}" for i in range(4))], convs, strict=True)):
        ours = f"synthesis.{ours}"
        state[f"{theirs}.conv.weight"] = t[f"{ours}.weight"][None]
        state[f"{theirs}.conv.modulation.weight"] = t[f"{ours}.affine.weight"]
        state[f"{theirs}.conv.modulation.bias"] = t[f"{ours}.affine.bias"]
        state[f"{theirs}.noise.weight"] = t[f"{ours}.noise_strength"][None]
        state[f"{theirs}.activate.bias"] = t[f"{ours}.bias"]
        state[f"noises.noise_{i}"] = t[f"{ours}.noise_const"][None, None]
        if ours.endswith("conv0"):
            state[f"{theirs}.conv.blur.kernel"] = KERNEL * 4
    for theirs, block in (("to_rgb1", "b4"), ("to_rgbs.0", "b8"), ("to_rgbs.1", "b16")):
        ours = f"synthesis.{block}.torgb"
        state[f"{theirs}.conv.weight"] = t[f"{ours}.weight"][None]
        state[f"{theirs}.conv.modulation.weight"] = t[f"{ours}.affine.weight"]
        state[f"{theirs}.conv.modulation.bias"] = t[f"{ours}.affine.bias"]
        state[f"{theirs}.bias"] = t[f"{ours}.bias"].reshape(1, 3, 1, 1)
        if theirs != "to_rgb1":
            state[f"{theirs}.upsample.kernel"] = KERNEL * 4
    return state


def discriminator_state(layer: foreign.Layer) -> dict[str, Tensor]:
    t = {name: tensor.float() for name, tensor in layer.tensors().items()}
    state = {
        "convs.0.0.weight": t["b16.fromrgb.weight"],
        "convs.0.1.bias": t["b16.fromrgb.bias"],
        "final_conv.0.weight": t["b4.conv.weight"],
        "final_conv.1.bias": t["b4.conv.bias"],
    }
    for i, block in enumerate(("b16", "b8"), start=1):
        state |= {
            f"convs.{i}.conv1.0.weight": t[f"{block}.conv0.weight"],
            f"convs.{i}.conv1.1.bias": t[f"{block}.conv0.bias"],
            f"convs.{i}.conv2.0.kernel": KERNEL,
            f"convs.{i}.conv2.1.weight": t[f"{block}.conv1.weight"],
            f"convs.{i}.conv2.2.bias": t[f"{block}.conv1.bias"],
            f"convs.{i}.skip.0.kernel": KERNEL,
            f"convs.{i}.skip.1.weight": t[f"{block}.skip.weight"],
        }
    for i, name in enumerate(("fc", "out")):
        for part in ("weight", "bias"):
            state[f"final_linear.{i}.{part}"] = t[f"b4.{name}.{part}"]
    return state


def values(kind: type[nn.Module], **options: Any) -> dict[str, Tensor]:
    """The random values of a network, in float32 as the official code saves them."""
    return {
        name: tensor.float()
        for name, tensor in build(kind, domains=DOMAINS, **options).state_dict().items()
        if tensor.is_floating_point()
    }


def theirs(t: dict[str, Tensor], network: str, *, prefix: str = "") -> dict[str, Tensor]:
    """The same values under the official names, written out from its modules."""
    blocks = len({name.split(".")[2] for name in t if name.startswith("trunk.blocks.")})
    state = {}
    for name, tensor in t.items():
        if network == "generator":
            name = re.sub(r"^norm\.", "to_rgb.0.", re.sub(r"^to_rgb\.", "to_rgb.2.", name))
            name = re.sub(r"^(decode\.\d+)\.conv(\d)\.modulation\.affine\.", r"\1.norm\2.fc.", name)
            name = name.replace(".conv.weight", ".weight").replace(".skip.", ".conv1x1.")
        else:
            name = name.replace("heads.", "unshared.").replace("trunk.from_rgb.", "shared.0.")
            name = name.replace("trunk.last.", f"shared.{blocks + 2}.").replace(".skip.", ".conv1x1.")
            name = re.sub(r"trunk\.blocks\.(\d+)\.", lambda match: f"shared.{int(match[1]) + 1}.", name)
        state[prefix + name] = tensor
    return state


def checkpoint(*, prefix: str = "", w_hpf: float = 0.0, **options: Any) -> tuple[dict[str, Any], list]:
    """(what the official code would save, our values of its three networks)."""
    parts = [values(Generator, w_hpf=w_hpf, **options)]
    parts += [values(kind, **options) for kind in (MappingNetwork, StyleEncoder)]
    names = ("generator", "mapping_network", "style_encoder")
    content = {name: theirs(t, name, prefix=prefix) for name, t in zip(names, parts, strict=True)}
    if w_hpf:
        kernel = torch.tensor([[-1.0, -1, -1], [-1, 8, -1], [-1, -1, -1]]) / w_hpf
        content["generator"][f"{prefix}hpf.filter"] = kernel
        content["fan"] = {f"{prefix}conv1.weight": torch.ones(2, 2)}
    return content, [{name: tensor.double() for name, tensor in t.items()} for t in parts]
