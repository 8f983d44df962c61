"""Checkpoints of the official StarGAN v2 code (100000_nets_ema.ckpt) as our networks."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from ganmod.io.model_file import ModelFileError, load_state
from ganmod.io.pickles.restricted_unpickle import read_tensors_pickle
from ganmod.network_file import build_within
from ganmod.starganv2.domain_networks import MappingNetwork, StyleEncoder
from ganmod.starganv2.generator import Generator
from ganmod.starganv2.spec import StarGANv2Spec
from ganmod.starganv2.starganv2_file import StarGANv2, save_starganv2
from ganmod.stylegan2.importers.foreign_weights import rename

_PARALLEL = "module."  # torch.nn.DataParallel's prefix of every name
_FILTER = "hpf.filter"
_PUBLISHED_MAX, _PUBLISHED_W_HPF = 512, 1.0

_GENERATOR_NAMES = [
    (r"encode\.(\d+)\.conv1x1\.weight", r"encode.\1.skip.weight"),
    (r"decode\.(\d+)\.conv1x1\.weight", r"decode.\1.skip.weight"),
    (r"decode\.(\d+)\.conv([12])\.weight", r"decode.\1.conv\2.conv.weight"),
    (r"decode\.(\d+)\.norm([12])\.fc\.(weight|bias)", r"decode.\1.conv\2.modulation.affine.\3"),
    (r"to_rgb\.0\.(weight|bias)", r"norm.\1"),
    (r"to_rgb\.2\.(weight|bias)", r"to_rgb.\1"),
]
_MAPPING_NAMES = [(r"unshared\.(.+)", r"heads.\1")]


class ImportStarGANv2Error(ValueError):
    """A file without StarGAN v2 networks that can be imported; the message says why and what to do."""


@dataclass(frozen=True)
class ImportedStarGANv2:
    """The networks of an official checkpoint, in eval mode on the CPU.

    Args:
        left_out: names of the file's other entries.
    """

    networks: StarGANv2
    left_out: tuple[str, ...]

    def save(self, path: str | Path, *, half: bool = False) -> None:
        """Write a model file for `ganmod translate`. half: store float16. Raises ModelFileError."""
        save_starganv2(path, self.networks, half=half)

    def describe(self) -> str:
        """One line: image size, domains, high-pass filter, networks with their numbers of parameters."""
        spec = self.networks.spec
        filtered = f"high-pass filter 1 / {spec.w_hpf:g}, " if spec.w_hpf else ""
        sizes = [
            f"{name} {sum(p.numel() for p in network.parameters()) / 1e6:.2f} M"
            for name, network in self.networks._asdict().items()
        ]
        return (
            f"{spec.img_size} x {spec.img_size}, domains {', '.join(spec.domains)}, {filtered}"
            f"parameters: {', '.join(sizes)}"
        )


def import_starganv2(
    path: str | Path, *, domains: Sequence[str] | None = None, w_hpf: float | None = None
) -> ImportedStarGANv2:
    """Import the generator, mapping network and style encoder of an official checkpoint.

    Nothing in the file is executed. Sizes come from the tensors' shapes. Images equal the official ones for
    equal masks; the network that predicts masks (fan) is left out. So is the discriminator of a *_nets.ckpt,
    whose networks are not averaged over training.

    Args:
        domains: names, in the order of the training folders' names; None numbers the domains from 0.
        w_hpf: of a generator with the high-pass filter; None takes the file's filter, else the published 1.

    Raises:
        ImportStarGANv2Error: for networks of another kind or number of domains.
        ModelFileError, UnsafePickleError: as `read_tensors_pickle`.
    """
    content = read_tensors_pickle(path)
    present = [name for name in ("generator", "mapping_network", "style_encoder") if _is_state(content, name)]
    if len(present) < 3:
        held = ", ".join(map(str, list(content)[:5])) if isinstance(content, Mapping) else ""
        raise ImportStarGANv2Error(
            f"{path}: holds no generator, mapping_network and style_encoder, only "
            f"{held or type(content).__name__}; give a *_nets_ema.ckpt of clovaai/stargan-v2"
        )
    states = [_tensors(content[name]) for name in present]
    spec = _infer_spec(*states, domains=domains, w_hpf=w_hpf, source=str(path))
    generator, mapping, style_encoder = states
    generator.pop(_FILTER, None)
    weights = [tensor for state in states for tensor in state.values()]
    networks = StarGANv2(
        build_within(lambda: Generator(spec), weights, source=path),
        build_within(lambda: MappingNetwork(spec), weights, source=path),
        build_within(lambda: StyleEncoder(spec), weights, source=path),
    )
    renamed = (
        rename(generator, _GENERATOR_NAMES),
        rename(mapping, _MAPPING_NAMES),
        rename(style_encoder, _encoder_names(_count(style_encoder, r"shared\.(\d+)\.conv1\.weight"))),
    )
    for name, network, tensors in zip(present, networks, renamed, strict=True):
        try:
            load_state(network, tensors, source=f"{path}: {name}")
        except ModelFileError as error:
            reason = str(error).removesuffix(". Build the model from the configuration of the same file")
            raise ImportStarGANv2Error(f"{reason}. Only the published networks can be imported") from error
        network.eval().requires_grad_(False)
    return ImportedStarGANv2(networks, tuple(str(name) for name in content if name not in present))


def _infer_spec(
    generator: Mapping[str, Tensor],
    mapping: Mapping[str, Tensor],
    style_encoder: Mapping[str, Tensor],
    *,
    domains: Sequence[str] | None,
    w_hpf: float | None,
    source: str,
) -> StarGANv2Spec:
    """The spec that follows from the shapes; loading checks the tensors against it."""
    halvings = _count(style_encoder, r"shared\.(\d+)\.conv1\.weight")  # from the image to 4 x 4 pixels
    num_domains = _count(style_encoder, r"unshared\.(\d+)\.weight")
    blocks = _count(generator, r"encode\.(\d+)\.conv1\.weight")
    heads = _count(mapping, r"unshared\.(\d+)\.0\.weight")
    # Blocks from the image to 16 x 16 pixels (8 x 8 with the filter), and two more.
    filtered = {halvings: False, halvings + 1: True}.get(blocks)
    try:
        shapes = (mapping["shared.0.weight"].shape, style_encoder["unshared.0.weight"].shape)
        (hidden_dim, latent_dim), (style_dim, _) = shapes
        first = len(generator["from_rgb.bias"])
        widest = max(
            len(t) for name, t in generator.items() if re.fullmatch(r"encode\.\d+\.conv2\.bias", name)
        )
    except (KeyError, TypeError, ValueError):
        filtered = None
    if filtered is None or halvings < 2 or heads != num_domains:
        raise ImportStarGANv2Error(
            f"{source}: its networks are not those of clovaai/stargan-v2 ({halvings} and {blocks} residual "
            f"blocks and {num_domains} domains in style encoder and generator, {heads} in the mapping "
            "network); only the published networks can be imported"
        )
    if not filtered and w_hpf:
        raise ImportStarGANv2Error(
            f"{source}: its generator is built without a high-pass filter: leave out w_hpf {w_hpf:g}"
        )
    names = tuple(map(str, range(num_domains))) if domains is None else tuple(domains)
    if len(names) != num_domains:
        raise ImportStarGANv2Error(
            f"{source}: has {num_domains} domains, but {len(names)} names were given: {', '.join(names)}"
        )
    return StarGANv2Spec(
        domains=names,
        img_size=4 << halvings,
        latent_dim=latent_dim,
        hidden_dim=hidden_dim,
        style_dim=style_dim,
        channel_base=first * (4 << halvings),
        channel_max=_PUBLISHED_MAX if widest < _PUBLISHED_MAX and widest == first << (blocks - 2) else widest,
        w_hpf=(w_hpf or _read_w_hpf(generator)) if filtered else 0.0,
    )


def _read_w_hpf(generator: Mapping[str, Tensor]) -> float:
    """w_hpf of the file's filter, whose centre is 8 / w_hpf; the first checkpoints have no filter."""
    if _FILTER not in generator:
        return _PUBLISHED_W_HPF
    kernel = generator[_FILTER]
    center = float(kernel.flatten()[4]) if kernel.numel() == 9 and not kernel.is_complex() else 0.0
    if not center > 0:
        raise ImportStarGANv2Error(
            f"{_FILTER} is {kernel.dtype} {list(kernel.shape)}, expected 3 x 3 numbers with 8 / w_hpf amid"
        )
    return 8 / center


def _encoder_names(num_blocks: int) -> list[tuple[str, str]]:
    """Rules from their names to ours; theirs number the layers: RGB, blocks, activation, last convolution."""
    rules = [
        (r"shared\.0\.(weight|bias)", r"trunk.from_rgb.\1"),
        (rf"shared\.{num_blocks + 2}\.(weight|bias)", r"trunk.last.\1"),
        (r"unshared\.(.+)", r"heads.\1"),
    ]
    for i in range(num_blocks):
        rules += [
            (rf"shared\.{i + 1}\.conv1x1\.weight", f"trunk.blocks.{i}.skip.weight"),
            (rf"shared\.{i + 1}\.(conv[12])\.(weight|bias)", rf"trunk.blocks.{i}.\1.\2"),
        ]
    return rules


def _is_state(content: Any, name: str) -> bool:
    return isinstance(content, Mapping) and isinstance(content.get(name), Mapping)


def _tensors(state: Mapping[str, Any]) -> dict[str, Tensor]:
    return {str(k).removeprefix(_PARALLEL): v for k, v in state.items() if isinstance(v, Tensor)}


def _count(state: Mapping[str, Tensor], pattern: str) -> int:
    return sum(re.fullmatch(pattern, name) is not None for name in state)
