"""Official StyleGAN2 pickles (StyleGAN2-ADA in PyTorch, StyleGAN3's repository) as our networks."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from configs.problems import shortened
from ganmod.io.model_file import first_names
from ganmod.io.pickles.module_pickle import ModuleRecord, read_module_pickle
from ganmod.network_file import build_within
from ganmod.network_spec import NetworkSpec
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

T = TypeVar("T")
S = TypeVar("S", bound=NetworkSpec)

_G_NAMES = (
    (r"mapping\.fc(\d+)\.(\w+)", r"mapping.layers.\1.\2"),
    (r"(synthesis\.b\d+\.(?:conv\d|torgb))\.weight", r"\1.conv.weight"),
    (r"(synthesis\.b\d+\.(?:conv\d|torgb))\.affine\.(\w+)", r"\1.modulation.affine.\2"),
)
_D_NAMES = (
    (r"mapping\.fc(\d+)\.(\w+)", r"mapping.layers.\1.\2"),
    (r"b4\.(fromrgb|conv)\.weight", r"epilogue.\1.conv.weight"),
    (r"b4\.(.*)", r"epilogue.\1"),
    (r"(b\d+\.(?:fromrgb|conv\d))\.weight", r"\1.conv.weight"),
)
_PUBLISHED_LIMITS = (32768, 512)  # the default channel_base and channel_max
_LINEAR = ("affine", "embed", "skip", "out")  # layers without an activation; all others have a leaky ReLU
_D_MAPPING_LR_MUL = 0.01
_FULL_BATCH = 1 << 16  # a minibatch-deviation group larger than any batch


def import_stylegan2_ada(path: str | Path, *, generator_only: bool = False) -> ImportedNetworks:
    """Import the networks of a network-snapshot-*.pkl; nothing in the file is executed.

    The generators give the official images (in float32) for the same z, c, truncation and noise. The
    discriminator gives the official logits for batches up to its minibatch-deviation group; larger batches
    are grouped in another order, see `minibatch_std`. Weights are stored unchanged. The gain that ours have
    cancels in the demodulation up to the constant in its root: a relative difference of 5e-9 over the mean
    square of the modulated weights.

    Args:
        generator_only: leave out G and D, which only training needs.

    Raises:
        ImportStyleGAN2Error: for networks of another kind.
        ModelFileError, UnsafePickleError: as `read_module_pickle`.
    """
    content = read_module_pickle(path)
    networks = content if isinstance(content, dict) else {}
    records = {name: record for name, record in networks.items() if isinstance(record, ModuleRecord)}
    if "G_ema" not in records:
        held = first_names([*map(str, records or networks)]) or type(content).__name__
        raise ImportStyleGAN2Error(
            f"{path}: holds no averaged generator G_ema, only {held}; give a network-snapshot-*.pkl of "
            "StyleGAN2-ADA or StyleGAN3"
        )
    read_G, read_D = "G" in records and not generator_only, "D" in records and not generator_only
    return ImportedNetworks(
        G_ema=_generator(_Layer(records["G_ema"], f"{path}: G_ema")),
        G=_generator(_Layer(records["G"], f"{path}: G")) if read_G else None,
        D=_discriminator(_Layer(records["D"], f"{path}: D")) if read_D else None,
    )


class _Layer:
    """A pickled network or layer; its readers raise errors that name what is missing and where."""

    def __init__(self, record: ModuleRecord, source: str) -> None:
        self.source, self.class_name = source, record.class_name
        self._state = record.state
        modules = record.state.get("_modules")
        self.children = {
            name: _Layer(child, f"{source}.{name}")
            for name, child in (modules.items() if isinstance(modules, dict) else ())
            if isinstance(child, ModuleRecord)
        }

    def child(self, name: str) -> _Layer:
        if name not in self.children:
            raise ImportStyleGAN2Error(
                f"{self.source} is a {self.class_name} without {name!r}, not a network of StyleGAN2; only "
                "the published StyleGAN2 networks can be imported"
            )
        return self.children[name]

    def has(self, name: str) -> bool:
        return name in self._state

    def value(self, name: str, kind: type[T]) -> T:
        entry = self._state.get(name)
        if isinstance(entry, kind):
            return entry
        raise ImportStyleGAN2Error(
            f"{self.source} has {name} = {shortened(entry)}, expected {kind.__name__}; only the published "
            "StyleGAN2 networks can be imported"
        )

    def number(self, name: str) -> float:
        entry = self._state.get(name)
        return float(entry) if isinstance(entry, int) else self.value(name, float)

    def optional(self, name: str) -> float | None:
        return None if self._state.get(name) is None else self.number(name)

    def options(self) -> dict[str, Any]:
        """The keyword arguments of the network's constructor."""
        entry = self._state.get("_init_kwargs")
        return entry if isinstance(entry, dict) else {}

    def tensors(self) -> dict[str, Tensor]:
        """Parameters and buffers (frozen layers keep their weights there), as in a state_dict."""
        tensors: dict[str, Tensor] = {}
        for group in ("_parameters", "_buffers"):
            held = self._state.get(group)
            for name, tensor in held.items() if isinstance(held, dict) else ():
                if isinstance(tensor, Tensor):
                    tensors[name] = tensor
        for child_name, child in self.children.items():
            tensors |= {f"{child_name}.{name}": tensor for name, tensor in child.tensors().items()}
        return tensors

    def walk(self) -> Iterator[tuple[str, _Layer]]:
        """Names (without their parents') and layers of all descendants."""
        for name, child in self.children.items():
            yield name, child
            yield from child.walk()

    def blocks(self) -> dict[int, _Layer]:
        """Children named by resolution, b4 b8 ..., coarse to fine."""
        matches = [(re.fullmatch(r"b(\d+)", name), child) for name, child in self.children.items()]
        return dict(sorted((int(match[1]), child) for match, child in matches if match))


def _generator(record: _Layer) -> Generator:
    synthesis, mapping = record.child("synthesis"), record.child("mapping")
    if "input" in synthesis.children and not synthesis.blocks():
        raise ImportStyleGAN2Error(
            f"{record.source} is a StyleGAN3 generator (configuration T or R), expected a StyleGAN2 one: of "
            "the StyleGAN3 repository only networks trained with --cfg=stylegan2 can be imported"
        )
    synthesis.child("b4")
    blocks = synthesis.blocks()
    widths = {res: len(_tensor(block.child("conv1"), "bias")) for res, block in blocks.items()}
    channel_base, channel_max = _limits(synthesis, widths)
    lr_mul = mapping.child("fc0").number("bias_gain")
    w_avg_beta = mapping.optional("w_avg_beta")
    if w_avg_beta is None:
        raise ImportStyleGAN2Error(
            f"{mapping.source} keeps no mean w (w_avg_beta is None), which truncation needs; only networks "
            "with one can be imported"
        )
    spec = _spec(
        GeneratorSpec,
        record,
        img_resolution=record.value("img_resolution", int),
        img_channels=record.value("img_channels", int),
        c_dim=record.value("c_dim", int),
        z_dim=record.value("z_dim", int),
        w_dim=record.value("w_dim", int),
        channel_base=channel_base,
        channel_max=channel_max,
        architecture=blocks[4].value("architecture", str),
        conv_clamp=blocks[4].child("conv1").optional("conv_clamp"),
        num_half_res=_num_half(blocks),
        half_dtype="float16",
        mapping_layers=mapping.value("num_layers", int),
        mapping_lr_mul=lr_mul,
        w_avg_beta=w_avg_beta if w_avg_beta < 1 else 0.995,  # converted TensorFlow networks have 1: none
    )
    tensors = rename(_collect_tensors(record), _G_NAMES)
    for name in tensors:
        if name.endswith("modulation.affine.bias"):  # theirs starts at 1, which ours adds
            tensors[name] = tensors[name] - 1
    network = build_within(lambda: Generator(spec), tensors.values(), source=record.source)
    for name, empty in network.state_dict().items():
        if name.endswith((".noise_const", ".noise_strength")):  # networks can be built without noise
            tensors.setdefault(name, torch.zeros_like(empty))
    return load_weights(network, tensors, source=record.source)


def _discriminator(record: _Layer) -> Discriminator:
    epilogue = record.child("b4")
    blocks = record.blocks()
    del blocks[4]
    if not blocks:
        raise ImportStyleGAN2Error(
            f"{record.source} has no blocks of more than 4 pixels, expected b8, b16 ..."
        )
    widths = {res: len(_tensor(block.child("conv0"), "bias")) for res, block in blocks.items()}
    widths[4] = len(_tensor(epilogue.child("conv"), "bias"))
    channel_base, channel_max = _limits(record, widths)
    mapping = record.children.get("mapping")
    deviation = epilogue.children.get("mbstd")
    group_size = None if deviation is None else deviation.optional("group_size")
    finest = blocks[max(blocks)]
    spec = _spec(
        DiscriminatorSpec,
        record,
        img_resolution=record.value("img_resolution", int),
        img_channels=record.value("img_channels", int),
        c_dim=record.value("c_dim", int),
        channel_base=channel_base,
        channel_max=channel_max,
        architecture=finest.value("architecture", str),
        conv_clamp=finest.child("conv0").optional("conv_clamp"),
        num_half_res=_num_half(blocks),
        half_dtype="float16",
        cmap_dim=epilogue.value("cmap_dim", int) or None,
        mapping_layers=8 if mapping is None else mapping.value("num_layers", int),
        mbstd_group_size=_FULL_BATCH if group_size is None else int(group_size),
        mbstd_num_channels=0 if deviation is None else deviation.value("num_channels", int),
    )
    tensors = rename(_collect_tensors(record), _D_NAMES)
    if mapping is not None:  # stored values are multiplied by the learning-rate factor, here a fixed one
        factor = mapping.child("fc0").number("bias_gain") / _D_MAPPING_LR_MUL
        for name in tensors:
            if name.startswith("mapping.layers."):
                tensors[name] = tensors[name] * factor
    network = build_within(lambda: Discriminator(spec), tensors.values(), source=record.source)
    return load_weights(network, tensors, source=record.source)


def _spec(kind: type[S], record: _Layer, **values: Any) -> S:
    """A specification from a pickle's values, with the types and ranges of a configuration."""
    try:
        return kind.from_dict(values)
    except ValueError as error:
        raise ImportStyleGAN2Error(
            f"{record.source} is no network that can be built ({error}); only the published StyleGAN2 "
            "networks can be imported"
        ) from error


def _tensor(layer: _Layer, name: str) -> Tensor:
    entry = layer.tensors().get(name)
    if entry is None or not entry.ndim:
        raise ImportStyleGAN2Error(
            f"{layer.source} is a {layer.class_name} without {name!r}; only the published StyleGAN2 networks "
            "can be imported"
        )
    return entry


def _limits(built: _Layer, widths: dict[int, int]) -> tuple[int, int]:
    """channel_base and channel_max, those of the network's constructor if known."""
    options = built.options()
    base, limit = (
        options.get(name, default)
        for name, default in zip(("channel_base", "channel_max"), _PUBLISHED_LIMITS, strict=True)
    )
    published = (base, limit) if isinstance(base, int) and isinstance(limit, int) else _PUBLISHED_LIMITS
    return channel_limits(widths, published=published, source=built.source)


def _num_half(blocks: dict[int, _Layer]) -> int:
    """How many resolutions run in half precision: the finest ones, in every published network."""
    return sum(block.value("use_fp16", bool) for block in blocks.values())


def _collect_tensors(network: _Layer) -> dict[str, Tensor]:
    """The network's tensors except its filters; checks that filters and activations equal ours."""
    for name, layer in network.walk():
        if layer.has("activation"):
            expected = "linear" if name in _LINEAR else "lrelu"
            if layer.value("activation", str) != expected:
                raise ImportStyleGAN2Error(
                    f"{layer.source} has the activation {layer.value('activation', str)!r}, expected "
                    f"{expected!r}; such a network cannot be imported"
                )
    tensors = network.tensors()
    for name in [name for name in tensors if name.split(".")[-1] == "resample_filter"]:
        check_resample_filter(tensors.pop(name), source=f"{network.source}.{name}")
    return tensors
