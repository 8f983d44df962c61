"""The configuration of a StarGAN v2 training run: `ganmod train starganv2`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import Field

from configs.sections import (
    NetworkOptions,
    NonNegative,
    Positive,
    PositiveFloat,
    Runtime,
    Schedule,
    Share,
    Strict,
    TrainingMetric,
    Workers,
)


class DomainData(Strict):
    """Images of two or more domains: sub-folders of a folder or of a zip, or classes in its dataset.json."""

    path: str = ""
    """Folder or zip; required."""
    crop_prob: Share = 0.5
    """How often an image is cropped at random before it is resized to the model's size."""
    mirror: bool = True
    """Whether half of the images are flipped left to right."""
    cache_mb: Positive = 2048
    """Memory for decoded images, in MiB, in each loader process."""
    num_workers: Workers = 0
    """Loader processes; 0 loads in the training process."""


@dataclass(frozen=True, kw_only=True)
class StarGANv2Model(NetworkOptions):
    """The networks (Choi et al. 2020, appendix; defaults as published); the domains come from the data.

    `ganmod.starganv2.StarGANv2Spec` extends it.
    """

    img_size: Positive = 256
    """Side of the images in pixels, a power of two from 16."""
    latent_dim: Positive = 16
    """Length of z."""
    hidden_dim: Positive = 512
    """Width of the mapping network."""
    style_dim: Positive = 64
    """Length of a style code."""
    channel_base: Positive = 16384
    """Channels of the first level times img_size; they double at every halving of the image."""
    channel_max: Positive = 512
    """Most channels of a level."""
    w_hpf: NonNegative = 0.0
    """High-pass skip connections have the strength 1 / w_hpf; 0: ordinary skip connections instead."""
    modulation: str = "adain"
    """A registered name, or names by resolution: "adaconv@16-64,adain@128-"."""
    modulation_options: Mapping[str, Any] = field(default_factory=dict)
    """Options of the one modulation, or nested by name."""


class StarGANv2Loss(Strict):
    """Weights of the terms (Choi et al. 2020, Eq. 5); the adversarial one's is 1."""

    r1_gamma: NonNegative = 1.0
    """Of R1 on real images, in every step; the penalty is multiplied by half of it."""
    style_weight: NonNegative = 1.0
    """Of the style reconstruction."""
    diversity_weight: NonNegative = 1.0
    """Of the diversity at the start."""
    diversity_decay_kimg: PositiveFloat | None = 800.0
    """Thousands of images over which the diversity's weight falls linearly to 0; None: never."""
    cycle_weight: NonNegative = 1.0
    """Of the cycle consistency."""


class StarGANv2Optimizer(Strict):
    """Adam of generator, discriminator and style encoder, and with mapping_lr of the mapping network."""

    lr: PositiveFloat = 1e-4
    """Learning rate."""
    mapping_lr: PositiveFloat = 1e-6
    """Learning rate of the mapping network."""
    beta1: float = Field(default=0.0, ge=0, lt=1)
    """Decay of the mean of gradients."""
    beta2: float = Field(default=0.99, ge=0, lt=1)
    """Decay of the mean of squared gradients."""
    weight_decay: NonNegative = 1e-4
    """L2 penalty added to the gradients."""


class StarGANv2Schedule(Schedule):
    """100,000 steps of 8 images; the half-life is that of the published decay of 0.999 per step."""

    total_kimg: PositiveFloat = 800.0
    """Length of the run in thousands of images."""
    ema_half_life_kimg: PositiveFloat = 5.5424
    """Half-life of the averaged weights in thousands of images."""
    ema_rampup: PositiveFloat | None = None  # type: ignore[assignment]
    """Bounds the half-life by this fraction of the images seen so far; None: no bound."""


class StarGANv2Run(Strict):
    """A StarGAN v2 training run: `ganmod train starganv2`."""

    recipe: Literal["starganv2"] = "starganv2"
    data: DomainData = DomainData()
    model: StarGANv2Model = StarGANv2Model()
    loss: StarGANv2Loss = StarGANv2Loss()
    optimizer: StarGANv2Optimizer = StarGANv2Optimizer()
    schedule: StarGANv2Schedule = StarGANv2Schedule()
    metric: TrainingMetric = TrainingMetric()
    runtime: Runtime = Runtime()
    plugins: list[str] = []
    """Modules that are imported first, such as one that registers a modulation."""
