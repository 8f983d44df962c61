"""Model files of StarGAN v2: saving all networks, loading the averaged ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from torch import nn

from ganmod.io.model_file import ModelFileError, read_model_file, save_model_file
from ganmod.modulation import check_plugins, describe_plugins
from ganmod.network_file import build_to_fit
from ganmod.starganv2.domain_networks import MappingNetwork, StyleEncoder
from ganmod.starganv2.generator import Generator
from ganmod.starganv2.spec import StarGANv2Spec

N = TypeVar("N", bound=nn.Module)

KIND = "starganv2"

_OTHER_KINDS = {  # what loads them
    "style-transfer": "load it with style_transfer.load, or use it in `ganmod stylize --model`",
    "stylegan2": "load it with ganmod.load, or use it in `ganmod generate`",
    "feature-network": "load it with ganmod.load_features",
}


class StarGANv2(NamedTuple):
    """The networks for translation, averaged over training, in eval mode; see `spec` for the domains.

    G(img, style) -> img, where style is mapping(z, domains) or style_encoder(img, domains).
    """

    G: Generator
    mapping: MappingNetwork
    style_encoder: StyleEncoder

    @property
    def spec(self) -> StarGANv2Spec:
        return self.G.spec


def save_starganv2(
    path: str | Path,
    averaged: StarGANv2,
    *,
    trained: Mapping[str, nn.Module] | None = None,
    training: Mapping[str, Any] | None = None,
    half: bool = False,
) -> None:
    """Write the networks to one model file, atomically.

    Args:
        trained: other networks by name (G, mapping, style_encoder, D), to continue training from the file.
        training: plain values, for information.
        half: store float16.

    Raises:
        ModelFileError: as `save_model_file`.
    """
    networks = {f"{name}_ema": network for name, network in averaged._asdict().items()} | dict(trained or {})
    tensors = {
        f"{prefix}.{name}": tensor
        for prefix, network in networks.items()
        for name, tensor in network.state_dict().items()
    }
    config = {"networks": averaged.spec.to_dict(), "training": dict(training or {})}
    config |= describe_plugins(averaged.G)
    save_model_file(path, tensors, kind=KIND, config=config, half=half)


def load_starganv2(path: str | Path) -> StarGANv2:
    """The networks of a model file, averaged over training, in eval mode on the CPU.

    Raises ModelFileError for a file that is damaged, of another kind, or has other tensors than its
    configuration describes.
    """
    file = read_model_file(path)
    if file.kind != KIND:
        way_out = _OTHER_KINDS.get(file.kind, "give a file that `ganmod train starganv2` wrote")
        raise ModelFileError(f"{path}: is a model file of kind {file.kind!r}, not {KIND!r}; {way_out}")
    try:
        spec = StarGANv2Spec.from_dict(file.config["networks"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ModelFileError(
            f"{path}: its configuration describes no StarGAN v2 networks ({error}); it may come from a newer "
            "ganmod, or train and save it again"
        ) from error
    check_plugins(file.config, source=path)

    def averaged(name: str, kind: Callable[[StarGANv2Spec], N]) -> N:
        prefix = f"{name}_ema."
        tensors = {
            key.removeprefix(prefix): value for key, value in file.tensors.items() if key.startswith(prefix)
        }
        network = build_to_fit(lambda: kind(spec), tensors, source=path)
        return network.eval().requires_grad_(False)

    return StarGANv2(
        averaged("G", Generator),
        averaged("mapping", MappingNetwork),
        averaged("style_encoder", StyleEncoder),
    )
