"""Model files of StyleGAN2: saving all three networks, loading the averaged generator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from ganmod.io.model_file import ModelFile, ModelFileError, read_model_file, save_model_file
from ganmod.modulation import check_plugins, describe_plugins
from ganmod.network_file import build_to_fit
from ganmod.stylegan2.discriminator import Discriminator
from ganmod.stylegan2.generator import Generator
from ganmod.stylegan2.projected_discriminator import ProjectedDiscriminator
from ganmod.stylegan2.spec import GeneratorSpec

KIND = "stylegan2"

_OTHER_KINDS = {  # what loads them
    "style-transfer": "load it with style_transfer.load, or use it in `ganmod stylize --model`",
    "starganv2": "load it with ganmod.starganv2.load_starganv2",
    "feature-network": "load it with ganmod.load_features",
}


class StyleGAN2File(NamedTuple):
    """What generation needs of a StyleGAN2 model file.

    Attributes:
        G: the generator averaged over training, in eval mode on the CPU.
        class_names: one per class; empty for an unconditional model and for classes without names.
    """

    G: Generator
    class_names: tuple[str, ...]


def save_stylegan2(
    path: str | Path,
    *,
    G_ema: Generator,
    G: Generator | None = None,
    D: Discriminator | ProjectedDiscriminator | None = None,
    class_names: Sequence[str] = (),
    training: Mapping[str, Any] | None = None,
    half: bool = False,
) -> None:
    """Write the networks to one model file, atomically.

    Args:
        G: stored to continue training from the file, as is D.
        class_names: one per class, or none.
        training: plain values, for information.
        half: store float16.

    Raises:
        ModelFileError: as `save_model_file`.
        ValueError: for a number of names other than the number of classes.
    """
    if class_names and len(class_names) != G_ema.c_dim:
        raise ValueError(
            f"got {len(class_names)} class_names for a model of {G_ema.c_dim} classes: give one for each"
        )
    networks = {"G_ema": G_ema, "G": G, "D": D}
    tensors = {
        f"{prefix}.{name}": tensor
        for prefix, network in networks.items()
        if network is not None
        for name, tensor in network.state_dict().items()
    }
    config: dict[str, Any] = {"generator": G_ema.spec.to_dict(), "training": dict(training or {})}
    if D is not None:
        config["discriminator"] = D.spec.to_dict()
    config |= describe_plugins(G_ema)
    if class_names:
        config["class_names"] = list(class_names)
    save_model_file(path, tensors, kind=KIND, config=config, half=half)


def load_stylegan2(path: str | Path, *, half_precision: bool = False) -> Generator:
    """The generator of a model file, averaged over training, in eval mode on the CPU.

    half_precision: run its finest resolutions in half precision, if it was trained so. Raises ModelFileError
    for a file that is damaged, of another kind, or has other tensors than its configuration describes.
    """
    return read_stylegan2(path, half_precision=half_precision).G


def read_stylegan2(path: str | Path, *, half_precision: bool = False) -> StyleGAN2File:
    """`load_stylegan2`, with the names of the classes."""
    file = read_model_file(path)
    if file.kind != KIND:
        way_out = _OTHER_KINDS.get(file.kind, "give a file that `ganmod train stylegan2` wrote")
        raise ModelFileError(f"{path}: is a model file of kind {file.kind!r}, not {KIND!r}; {way_out}")
    spec, class_names = _read_config(file, path)
    prefix = "G_ema."
    tensors = {
        name.removeprefix(prefix): tensor for name, tensor in file.tensors.items() if name.startswith(prefix)
    }
    if not tensors:
        held = ", ".join(sorted({name.split(".")[0] for name in file.tensors})) or "nothing"
        raise ModelFileError(
            f"{path}: holds no averaged generator (tensors named {prefix}...), only {held}; train and save "
            "it again"
        )
    check_plugins(file.config, source=path)
    # Half precision makes training faster; on a CPU it is slower and less exact.
    chosen = spec if half_precision else replace(spec, num_half_res=0)
    G = build_to_fit(lambda: Generator(chosen), tensors, source=path)
    return StyleGAN2File(G.eval().requires_grad_(False), class_names)


def _read_config(file: ModelFile, path: str | Path) -> tuple[GeneratorSpec, tuple[str, ...]]:
    try:
        spec = GeneratorSpec.from_dict(file.config["generator"])
        class_names = tuple(str(name) for name in file.config.get("class_names", ()))
        if class_names and len(class_names) != spec.c_dim:
            raise ValueError(f"{len(class_names)} class names for {spec.c_dim} classes")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ModelFileError(
            f"{path}: its configuration describes no StyleGAN2 generator ({error}); it may come from a newer "
            "ganmod, or train and save it again"
        ) from error
    return spec, class_names
