"""Architectures by name: the networks around the frozen encoder."""

from __future__ import annotations

from typing import NamedTuple

from ganmod.modulation import StyleSpec
from style_transfer.networks.cascade_host import CascadeDecoder, PictureEncoder
from style_transfer.networks.classic_host import ClassicDecoder, ClassicStyleEncoder
from style_transfer.networks.johnson_host import (
    BottleneckStyleEncoder,
    ContractingEncoder,
    JohnsonDecoder,
)
from style_transfer.networks.paper_host import ModulatedDecoder, PaperStyleEncoder
from style_transfer.networks.residual_host import ContentEncoder, ResidualDecoder, StatisticsStyleEncoder
from style_transfer.networks.staged_decoder import StagedDecoder
from style_transfer.networks.style_encoder import StyleEncoder
from style_transfer.networks.stylebank_host import BankDecoder, BankEncoder
from style_transfer.networks.transform_host import FeatureStyleEncoder, TransformDecoder
from style_transfer.spec import ModelSpec

BUDGET = 4  # AdaConv's default kernel budget, as a multiple of the residual host's width


class Host(NamedTuple):
    """What an architecture adds to the frozen encoder.

    Without a content encoder, the decoder reads the frozen encoder's relu4_1.
    """

    content_encoder: ContentEncoder | ContractingEncoder | PictureEncoder | None
    style_encoder: StyleEncoder
    decoder: StagedDecoder


def build_host(spec: ModelSpec) -> Host:
    """The networks of `spec.architecture`, untrained."""
    build = {
        "classic": _classic,
        "modulated": _paper,
        "residual": _residual,
        "transform": _transform,
        "johnson": _johnson,
        "stylebank": _stylebank,
        "cascade": _cascade,
    }
    return build[spec.architecture](spec)


def _classic(spec: ModelSpec) -> Host:
    return Host(None, ClassicStyleEncoder(), ClassicDecoder(spec.encoder_widths))


def _transform(spec: ModelSpec) -> Host:
    decoder = TransformDecoder(
        spec.encoder_widths,
        modulation=spec.modulation,
        modulation_options=spec.modulation_options,
        skip_modulation=spec.skip_modulation,
    )
    return Host(None, FeatureStyleEncoder(), decoder)


def _paper(spec: ModelSpec) -> Host:
    style_encoder = PaperStyleEncoder(
        spec.encoder_widths[-1],
        spec.style_image_size // 8,
        style_dim=spec.style_dim,
        descriptor_size=spec.descriptor_size,
    )
    decoder = ModulatedDecoder(
        spec.encoder_widths,
        StyleSpec("map", spec.style_dim, spec.descriptor_size, host_width=max(spec.encoder_widths)),
        modulation=spec.modulation,
        modulation_options=spec.modulation_options,
    )
    return Host(None, style_encoder, decoder)


def _residual(spec: ModelSpec) -> Host:
    content_encoder = ContentEncoder(spec.width)
    host_width = BUDGET * spec.width
    style_encoder: StyleEncoder
    if spec.learned_styles:
        style_encoder = StyleEncoder()
        style = StyleSpec("id", len(spec.learned_styles), host_width=host_width)
    else:
        style_encoder = StatisticsStyleEncoder(
            spec.encoder_widths, style_dim=spec.style_dim, descriptor_size=spec.descriptor_size
        )
        style = StyleSpec("map", spec.style_dim, spec.descriptor_size, host_width=host_width)
    decoder = ResidualDecoder(
        style,
        modulation=spec.modulation,
        modulation_options=spec.modulation_options,
        width=spec.width,
        num_blocks=spec.num_blocks,
    )
    return Host(content_encoder, style_encoder, decoder)


def _johnson(spec: ModelSpec) -> Host:
    style_encoder: StyleEncoder
    if spec.learned_styles:
        style_encoder, style = StyleEncoder(), StyleSpec("id", len(spec.learned_styles))
    else:
        style_encoder = BottleneckStyleEncoder(spec.encoder_widths, style_dim=spec.style_dim)
        style = StyleSpec("vector", spec.style_dim)
    decoder = JohnsonDecoder(
        style,
        modulation=spec.modulation,
        modulation_options=spec.modulation_options,
        width=spec.width,
        num_blocks=spec.num_blocks,
    )
    return Host(ContractingEncoder(spec.width), style_encoder, decoder)


def _stylebank(spec: ModelSpec) -> Host:
    decoder = BankDecoder(
        StyleSpec("id", len(spec.learned_styles)),
        modulation=spec.modulation,
        modulation_options=spec.modulation_options,
        width=spec.width,
    )
    return Host(BankEncoder(spec.width), StyleEncoder(), decoder)


def _cascade(spec: ModelSpec) -> Host:
    decoder = CascadeDecoder(
        spec.levels, modulation=spec.modulation, modulation_options=spec.modulation_options
    )
    return Host(PictureEncoder(), StyleEncoder(), decoder)
