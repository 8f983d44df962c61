"""The configuration of a StyleGAN2 training run: `ganmod train stylegan2`."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from configs.sections import (
    AnySchedule,
    NonNegative,
    Positive,
    PositiveFloat,
    Runtime,
    Strict,
    TrainingMetric,
)


class GanData(Strict):
    """Images of one size: a folder, a zip, or sub-folders as classes."""

    path: str = ""
    resolution: int | tuple[int, int] | None = None  # None: as stored
    conditional: bool = False
    mirror: bool = False
    cache_mb: Positive = 2048
    num_workers: int = Field(default=0, ge=0)


class StyleGAN2Model(Strict):
    """The networks; None follows from the resolution, as in stylegan2-ada's `auto`."""

    z_dim: Positive = 512
    w_dim: Positive = 512
    mapping_layers: Positive = 2
    channel_base: Positive | None = None
    start_size: tuple[int, int] | None = None  # height and width of the coarsest level
    channel_max: Positive = 512
    g_channel_max: Positive | None = None  # of the generator alone; None: channel_max
    generator: Literal["skip", "resnet", "orig"] = "skip"
    discriminator: Literal["skip", "resnet", "orig"] = "resnet"
    modulation: str = "weight_demod"
    modulation_options: dict[str, Any] = {}
    style_lift: Literal["none", "shared", "per_layer"] = "none"
    descriptor_dim: Positive = 64
    descriptor_size: Positive = 3
    modulate_after_upsampling: bool = False
    mbstd_group_size: Positive | None = None
    conv_clamp: PositiveFloat | None = 256.0
    num_half_res: int = Field(default=4, ge=0)


class StyleGAN2Loss(Strict):
    """Non-saturating loss, R1 and path length regularisation, both lazy (Karras et al. 2020)."""

    r1_gamma: NonNegative | None = None
    r1_interval: Positive = 16
    pl_weight: NonNegative = 2.0
    pl_interval: Positive = 4
    pl_decay: float = Field(default=0.01, gt=0, le=1)
    style_mixing_prob: float = Field(default=0.9, ge=0, le=1)


class Augmentation(Strict):
    """Of all that the discriminator sees. ada: p follows ada_target; fixed: p stays at `p`."""

    kind: Literal["none", "ada", "fixed", "diffaugment"] = "ada"
    pipe: str = "bgc"
    p: float = Field(default=0.0, ge=0, le=1)
    ada_target: float = Field(default=0.6, ge=-1, le=1)
    ada_interval: Positive = 4
    ada_kimg: PositiveFloat = 500.0
    ada_p_max: float = Field(default=0.8, ge=0, le=1)
    diffaugment_policy: str = "color,translation,cutout"


class GanOptimizer(Strict):
    """Adam of both networks, before the correction for lazy regularisation; None follows the resolution."""

    g_lr: PositiveFloat | None = None
    d_lr: PositiveFloat | None = None
    beta1: float = Field(default=0.0, ge=0, lt=1)
    beta2: float = Field(default=0.99, ge=0, lt=1)


class GanSchedule(AnySchedule):
    """How long, and how often what is written; None follows the resolution."""

    batch_size: Positive | None = None
    total_kimg: PositiveFloat = 25000.0
    log_kimg: PositiveFloat = 4.0
    snapshot_kimg: PositiveFloat = 200.0
    checkpoint_kimg: PositiveFloat = 200.0
    ema_half_life_kimg: PositiveFloat | None = None
    ema_rampup: PositiveFloat | None = 0.05


class GanRuntime(Runtime):
    """precision: of the finest `model.num_half_res` resolutions; the others are float32. auto: bfloat16 where
    the device has it, else float16 on a GPU and float32 on a CPU.
    """

    precision: Literal["auto", "float32", "bfloat16", "float16", "float64"] = "auto"  # type: ignore[assignment]


class StyleGAN2Run(Strict):
    """A StyleGAN2 training run: `ganmod train stylegan2`."""

    recipe: Literal["stylegan2"] = "stylegan2"
    data: GanData = GanData()
    model: StyleGAN2Model = StyleGAN2Model()
    loss: StyleGAN2Loss = StyleGAN2Loss()
    augmentation: Augmentation = Augmentation()
    optimizer: GanOptimizer = GanOptimizer()
    schedule: GanSchedule = GanSchedule()
    metric: TrainingMetric = TrainingMetric()
    runtime: GanRuntime = GanRuntime()
    transfer: str | None = None
    freeze_d: int = Field(default=0, ge=0)
    plugins: list[str] = []


class ResolvedModel(StyleGAN2Model):
    """`StyleGAN2Model` with what follows from the resolution filled in."""

    channel_base: Positive
    mbstd_group_size: Positive


class ResolvedLoss(StyleGAN2Loss):
    """`StyleGAN2Loss` with the weight of R1 filled in."""

    r1_gamma: NonNegative


class ResolvedOptimizer(GanOptimizer):
    """`GanOptimizer` with both learning rates filled in."""

    g_lr: PositiveFloat
    d_lr: PositiveFloat


class ResolvedSchedule(GanSchedule):
    """`GanSchedule` with batch size and half-life filled in."""

    batch_size: Positive
    ema_half_life_kimg: PositiveFloat


class ResolvedRuntime(GanRuntime):
    """`GanRuntime` with the precision that "auto" stands for."""

    precision: Literal["float32", "bfloat16", "float16", "float64"]


class ResolvedStyleGAN2(StyleGAN2Run):
    """A StyleGAN2 run of which nothing is left to follow from the data and the device."""

    model: ResolvedModel
    loss: ResolvedLoss
    optimizer: ResolvedOptimizer
    schedule: ResolvedSchedule
    runtime: ResolvedRuntime
