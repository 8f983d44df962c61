"""Checkpoints of rosinality/stylegan2-pytorch (.pt) as our networks."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ganmod.io.pickles.restricted_unpickle import UnsafePickleError, read_tensors_pickle
from ganmod.network_file import build_within
from ganmod.stylegan2.discriminator import Discriminator
from ganmod.stylegan2.generator import Generator
from ganmod.stylegan2.importers.foreign_weights import (
    ImportedNetworks,
    ImportStyleGAN2Error,
    channel_limits,
    check_resample_filter,
    load_weights,
    rename,
)
from ganmod.stylegan2.spec import DiscriminatorSpec, GeneratorSpec

_PUBLISHED_LIMITS = (32768, 512)  # a channel multiplier of 2, the default
_MEAN_SAMPLES = 1 << 14  # latents for a mean w that the file does not hold
_LR_MUL = 0.01
_D_GROUP = 4


def import_stylegan2_rosinality(path: str | Path, *, generator_only: bool = False) -> ImportedNetworks:
    """Import a checkpoint with "g_ema" (and "g", "d", "latent_avg"); nothing in the file is executed.

    The generators give the original images for the same z, truncation and noise. The discriminator gives the
    original logits for batches up to 4; larger batches are grouped in another order, see `minibatch_std`.
    The mean w is latent_avg, or else, as for checkpoints of training, the mean over 16384 latents from a
    fixed seed.

    Args:
        generator_only: leave out G and D, which only training needs.

    Raises:
        ImportStyleGAN2Error: for networks of another kind.
        ModelFileError, UnsafePickleError: as `read_tensors_pickle`.
    """
    try:
        content = read_tensors_pickle(path)
    except UnsafePickleError as error:
        if "torch_utils.persistence" in str(error):
            raise ImportStyleGAN2Error(
                f"{path}: is an official pickle of networks; import it with `ganmod import stylegan2-ada`"
            ) from error
        raise
    if not isinstance(content, Mapping) or not isinstance(content.get("g_ema"), Mapping):
        held = ", ".join(map(str, list(content)[:5])) if isinstance(content, Mapping) else ""
        raise ImportStyleGAN2Error(
            f"{path}: holds no averaged generator g_ema, only {held or type(content).__name__}; give a "
            "checkpoint of rosinality/stylegan2-pytorch"
        )
    mean = content.get("latent_avg")
    G, D = (None, None) if generator_only else (content.get("g"), content.get("d"))
    return ImportedNetworks(
        G_ema=_generator(content["g_ema"], mean, f"{path}: g_ema"),
        G=_generator(G, mean, f"{path}: g") if isinstance(G, Mapping) else None,
        D=_discriminator(D, f"{path}: d") if isinstance(D, Mapping) else None,
    )


def _generator(state: Mapping[str, Any], mean: Any, source: str) -> Generator:
    state = _collect_tensors(state, source)
    convs = _count(state, r"convs\.(\d+)\.conv\.weight")
    if not convs or convs % 2:
        raise _network_error(state, source)
    style_dim = _length(state, "style.1.bias", source)
    resolutions = [8 << i for i in range(convs // 2)]
    widths = {4: _length(state, "conv1.activate.bias", source)}
    for i, res in enumerate(resolutions):
        widths[res] = _length(state, f"convs.{2 * i}.activate.bias", source)
    base, limit = channel_limits(widths, published=_PUBLISHED_LIMITS, source=source)
    spec = GeneratorSpec(
        img_resolution=resolutions[-1],
        z_dim=style_dim,
        w_dim=style_dim,
        channel_base=base,
        channel_max=limit,
        conv_clamp=None,
        mapping_layers=_count(state, r"style\.(\d+)\.weight"),
        mapping_lr_mul=_LR_MUL,
    )
    tensors = rename(state, _generator_names(len(resolutions)))
    for name, tensor in tensors.items():
        tensors[name] = _convert(name, tensor)
    network = build_within(lambda: Generator(spec), tensors.values(), source=source)
    draws = torch.Generator().manual_seed(0)
    for name, noise in network.state_dict().items():
        if name.endswith(".noise_const") and name not in tensors:  # the oldest checkpoints have none
            tensors[name] = torch.randn(noise.shape, generator=draws)
    tensors["mapping.w_avg"] = mean.float().flatten() if isinstance(mean, Tensor) else torch.zeros(style_dim)
    load_weights(network, tensors, source=source)
    if not isinstance(mean, Tensor):
        network.mapping.w_avg.copy_(_mean_w(network))
    return network


def _generator_names(num_upsamplings: int) -> list[tuple[str, str]]:
    """Rules from their names to ours; their convolutions are numbered, two per resolution after the first."""
    layers = {r"conv1": ("synthesis.b4.conv1", 0), r"to_rgb1": ("synthesis.b4.torgb", None)}
    for i in range(num_upsamplings):
        block = f"synthesis.b{8 << i}"
        layers[rf"convs\.{2 * i}"] = (f"{block}.conv0", 2 * i + 1)
        layers[rf"convs\.{2 * i + 1}"] = (f"{block}.conv1", 2 * i + 2)
        layers[rf"to_rgbs\.{i}"] = (f"{block}.torgb", None)
    rules = [(r"input\.input", "synthesis.b4.const")]
    for theirs, (ours, noise) in layers.items():
        rules += [
            (rf"{theirs}\.conv\.weight", f"{ours}.conv.weight"),
            (rf"{theirs}\.conv\.modulation\.(weight|bias)", rf"{ours}.modulation.affine.\1"),
            (rf"{theirs}\.(activate\.)?bias", f"{ours}.bias"),
            (rf"{theirs}\.noise\.weight", f"{ours}.noise_strength"),
        ]
        if noise is not None:
            rules.append((rf"noises\.noise_{noise}", f"{ours}.noise_const"))
    # style.0 is the normalisation of z.
    return rules + [(rf"style\.{i + 1}\.(weight|bias)", rf"mapping.layers.{i}.\1") for i in range(64)]


def _convert(name: str, tensor: Tensor) -> Tensor:
    """A tensor of theirs as ours: without their axes of length one, affine biases less their start of 1."""
    if name.endswith(".noise_strength"):
        return tensor.reshape(()) if tensor.numel() == 1 else tensor
    if name.endswith(".modulation.affine.bias"):
        return tensor - 1
    if name.endswith(".torgb.bias"):
        return tensor.flatten()  # [1,3,1,1]
    if name.endswith((".conv.weight", ".const")) and tensor.ndim and len(tensor) == 1:
        return tensor[0]  # [1,O,C,K,K], [1,C,4,4]
    if name.endswith(".noise_const"):
        return tensor[0, 0] if tensor.ndim == 4 and tensor.numel() else tensor  # [1,1,H,W]
    return tensor


@torch.no_grad()
def _mean_w(G: Generator) -> Tensor:
    z = torch.randn(_MEAN_SAMPLES, G.z_dim, generator=torch.Generator().manual_seed(0))
    return G.mapping(z)[:, 0].mean(dim=0)


def _discriminator(state: Mapping[str, Any], source: str) -> Discriminator:
    state = _collect_tensors(state, source)
    num_blocks = _count(state, r"convs\.(\d+)\.conv1\.0\.weight")
    if not num_blocks:
        raise _network_error(state, source)
    resolutions = [4 << i for i in range(num_blocks, 0, -1)]  # fine to coarse, as the blocks are counted
    widths = {4: _length(state, "final_conv.0.weight", source)}
    for i, res in enumerate(resolutions, start=1):
        widths[res] = _length(state, f"convs.{i}.conv1.0.weight", source)
    base, limit = channel_limits(widths, published=_PUBLISHED_LIMITS, source=source)
    spec = DiscriminatorSpec(
        img_resolution=resolutions[0],
        channel_base=base,
        channel_max=limit,
        conv_clamp=None,
        mbstd_group_size=_D_GROUP,
    )
    finest = f"b{resolutions[0]}"
    rules = [
        (r"convs\.0\.0\.weight", f"{finest}.fromrgb.conv.weight"),
        (r"convs\.0\.1\.bias", f"{finest}.fromrgb.bias"),
        (r"final_conv\.0\.weight", "epilogue.conv.conv.weight"),
        (r"final_conv\.1\.bias", "epilogue.conv.bias"),
        (r"final_linear\.0\.(weight|bias)", r"epilogue.fc.\1"),
        (r"final_linear\.1\.(weight|bias)", r"epilogue.out.\1"),
    ]
    for i, res in enumerate(resolutions, start=1):
        rules += [
            (rf"convs\.{i}\.conv1\.0\.weight", f"b{res}.conv0.conv.weight"),
            (rf"convs\.{i}\.conv1\.1\.bias", f"b{res}.conv0.bias"),
            (rf"convs\.{i}\.conv2\.1\.weight", f"b{res}.conv1.conv.weight"),  # 0 is the filter
            (rf"convs\.{i}\.conv2\.2\.bias", f"b{res}.conv1.bias"),
            (rf"convs\.{i}\.skip\.1\.weight", f"b{res}.skip.weight"),
        ]
    tensors = rename(state, rules)
    network = build_within(lambda: Discriminator(spec), tensors.values(), source=source)
    return load_weights(network, tensors, source=source)


def _collect_tensors(state: Mapping[str, Any], source: str) -> dict[str, Tensor]:
    """The state's tensors except its filters; checks that these equal ours."""
    tensors = {str(name): tensor for name, tensor in state.items() if isinstance(tensor, Tensor)}
    for name in [name for name in tensors if name.split(".")[-1] == "kernel"]:
        check_resample_filter(tensors.pop(name), source=f"{source}: {name}")
    return tensors


def _length(state: Mapping[str, Tensor], name: str, source: str) -> int:
    if name not in state or not state[name].ndim:
        raise _network_error(state, source)
    return len(state[name])


def _count(state: Mapping[str, Tensor], pattern: str) -> int:
    return sum(re.fullmatch(pattern, name) is not None for name in state)


def _network_error(state: Mapping[str, Tensor], source: str) -> ImportStyleGAN2Error:
    return ImportStyleGAN2Error(
        f"{source} is not a network of rosinality/stylegan2-pytorch with --arch stylegan2; its first tensors "
        f"are {', '.join(list(state)[:3]) or 'none'}. Its swagan networks and other code's cannot be imported"
    )
