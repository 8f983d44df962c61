"""The configuration of a StarGAN v2 training run: `ganmod train starganv2`."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from configs.sections import NonNegative, Positive, PositiveFloat, Runtime, Schedule, Strict, TrainingMetric


class DomainData(Strict):
    """Images of two or more domains: sub-folders of a folder or of a zip, or classes in its dataset.json.

    crop_prob: how often an image is cropped at random before it is resized to the model's size.
    """

    path: str = ""
    crop_prob: float = Field(default=0.5, ge=0, le=1)
    mirror: bool = True
    cache_mb: Positive = 2048
    num_workers: int = Field(default=0, ge=0)


class StarGANv2Model(Strict):
    """The networks; the domains come from the data."""

    img_size: Positive = 256
    latent_dim: Positive = 16
    hidden_dim: Positive = 512
    style_dim: Positive = 64
    channel_base: Positive = 16384
    channel_max: Positive = 512
    w_hpf: NonNegative = 0.0
    modulation: str = "adain"
    modulation_options: dict[str, Any] = {}


class StarGANv2Loss(Strict):
    """Weights of the terms (Choi et al. 2020, Eq. 5); the adversarial one's is 1. r1_gamma: R1 on real images
    in every step; diversity_weight falls linearly to 0 over diversity_decay_kimg, null: never.
    """

    r1_gamma: NonNegative = 1.0
    style_weight: NonNegative = 1.0
    diversity_weight: NonNegative = 1.0
    diversity_decay_kimg: PositiveFloat | None = 800.0
    cycle_weight: NonNegative = 1.0


class StarGANv2Optimizer(Strict):
    """Adam of the generator, the discriminator and the style encoder, and with mapping_lr of the mapping
    network.
    """

    lr: PositiveFloat = 1e-4
    mapping_lr: PositiveFloat = 1e-6
    beta1: float = Field(default=0.0, ge=0, lt=1)
    beta2: float = Field(default=0.99, ge=0, lt=1)
    weight_decay: NonNegative = 1e-4


class StarGANv2Schedule(Schedule):
    """100,000 steps of 8 images; the half-life is that of the published decay of 0.999 per step."""

    total_kimg: PositiveFloat = 800.0
    ema_half_life_kimg: PositiveFloat = 5.5424
    ema_rampup: PositiveFloat | None = None  # type: ignore[assignment]


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
