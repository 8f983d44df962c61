"""The configuration of a StyleGAN2 training run: `ganmod train stylegan2`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import Field

from configs.sections import (
    AnySchedule,
    Count,
    NetworkOptions,
    NonNegative,
    Positive,
    PositiveFloat,
    Runtime,
    Share,
    Strict,
    TrainingMetric,
    Workers,
)

Architecture = Literal["skip", "resnet", "orig"]
ObjectiveName = Literal["nonsaturating", "r3", "hinge"]
StyleLift = Literal["none", "shared", "per_layer"]


class GanData(Strict):
    """Images of one size: a folder, a zip, or sub-folders as classes."""

    path: str = ""
    """Folder or zip; required."""
    resolution: Positive | tuple[Positive, Positive] | None = None
    """The size that is expected, a side or [height, width] in pixels; None: as stored."""
    conditional: bool = False
    """Whether to train on the data's labels."""
    mirror: bool = False
    """Whether half of the images are flipped left to right."""
    cache_mb: Positive = 2048
    """Memory for decoded images, in MiB, in each loader process."""
    num_workers: Workers = 0
    """Loader processes; 0 loads in the training process."""


@dataclass(frozen=True, kw_only=True)
class SharedOptions(NetworkOptions):
    """Options of both networks, which `ganmod.stylegan2.GeneratorSpec` and DiscriminatorSpec extend."""

    channel_base: Positive | None = None
    """Channels at resolution r are min(channel_base / r, channel_max); None follows from the resolution."""
    channel_max: Positive = 512
    """Most channels of a level."""
    start_size: tuple[Positive, Positive] | None = None
    """Height and width of the coarsest level; None: halved until the shorter side has 4 to 7 pixels."""
    conv_clamp: PositiveFloat | None = 256.0
    """Bound of every activation, which half precision needs; None: no bound."""
    num_half_res: Count = 4
    """How many of the finest resolutions run in half precision; the coarsest never does."""


@dataclass(frozen=True, kw_only=True)
class ModulationOptions(NetworkOptions):
    """Where a style acts and in which form it is read: what a comparison of runs varies."""

    modulation: str = "weight_demod"
    """A registered name, or names by resolution, "adaconv@4-32,weight_demod@64-".

    ToRGB layers have plain weight modulation under each.
    """
    modulation_options: Mapping[str, Any] = field(default_factory=dict)
    """Options of the one modulation, or nested by name."""
    style_lift: StyleLift = "none"
    """What modulations read: w ("none"), or a descriptor made of w by an MLP for all layers or for each."""
    descriptor_dim: Positive = 64
    """Channels of the descriptor."""
    descriptor_size: Positive = 3
    """Side S of the descriptor [descriptor_dim, S, S]."""
    modulate_after_upsampling: bool = False
    """Whether upsampling layers modulate the enlarged image, at four times the cost."""


@dataclass(frozen=True, kw_only=True)
class GeneratorOptions(SharedOptions, ModulationOptions):
    """Options of the generator (Karras et al. 2020)."""

    z_dim: Count = 512
    """Length of z."""
    w_dim: Positive = 512
    """Length of w."""
    mapping_layers: Positive = 2
    """Layers of the mapping network."""


@dataclass(frozen=True, kw_only=True)
class DiscriminatorOptions(SharedOptions):
    """Options of the discriminator."""

    mbstd_group_size: Positive | None = None
    """Samples whose deviation is one feature; None follows from the batch."""


@dataclass(frozen=True, kw_only=True)
class StyleGAN2Model(GeneratorOptions, DiscriminatorOptions):
    """The networks; None follows from the resolution, as in stylegan2-ada's `auto`."""

    generator: Architecture = "skip"
    """Architecture of the generator."""
    discriminator: Architecture | Literal["projected"] = "resnet"
    """Architecture of the discriminator; projected: on random projections of frozen features."""
    g_channel_max: Positive | None = None
    """channel_max of the generator alone; None: channel_max."""


class StyleGAN2Loss(Strict):
    """What the networks minimise, and its regularisation."""

    objective: ObjectiveName | None = None
    """nonsaturating: with lazy R1 and path length regularisation (Karras et al. 2020). r3: relativistic
    pairing with R1 and R2 in every step (Huang et al. 2024). hinge: without either (Sauer et al. 2021).
    None: hinge with a projected discriminator, else nonsaturating."""
    r1_gamma: NonNegative | None = None
    """Of R1 (and R2), whose penalty is multiplied by half of it; None follows from resolution and batch."""
    r1_interval: Positive = 16
    """Steps between two of R1."""
    pl_weight: NonNegative = 2.0
    """Of the path length regularisation; 0: without it."""
    pl_interval: Positive = 4
    """Steps between two of the path length regularisation."""
    pl_decay: float = Field(default=0.01, gt=0, le=1)
    """Weight of a step's mean path length in the running mean."""
    style_mixing_prob: Share = 0.9
    """How often a batch takes the styles of its finer layers from other latents."""


class Augmentation(Strict):
    """Augmentation of all images that the discriminator sees, real and generated."""

    kind: Literal["none", "ada", "fixed", "diffaugment"] = "ada"
    """ada: p follows ada_target; fixed: p stays as it is; diffaugment: see diffaugment_policy."""
    pipe: str = "bgc"
    """Transformations of ada and fixed, by the letters and names of stylegan2-ada."""
    p: Share = 0.0
    """Probability of each transformation, at the start under ada."""
    ada_target: float = Field(default=0.6, ge=-1, le=1)
    """Mean sign of the logits of real images that ada aims at."""
    ada_interval: Positive = 4
    """Steps between two adjustments."""
    ada_kimg: PositiveFloat = 500.0
    """Thousands of images in which p can rise from 0 to 1."""
    ada_p_max: Share = 0.8
    """Highest p under ada."""
    diffaugment_policy: str = "color,translation,cutout"
    """Transformations of diffaugment, separated by commas."""


class GanOptimizer(Strict):
    """Adam of both networks, before the correction for lazy regularisation; None follows the resolution."""

    g_lr: PositiveFloat | None = None
    """Learning rate of the generator."""
    d_lr: PositiveFloat | None = None
    """Learning rate of the discriminator."""
    beta1: float = Field(default=0.0, ge=0, lt=1)
    """Decay of the mean of gradients."""
    beta2: float = Field(default=0.99, ge=0, lt=1)
    """Decay of the mean of squared gradients."""


class GanSchedule(AnySchedule):
    """How long, and how often what is written; None follows the resolution."""

    batch_size: Positive | None = None
    """Images of a step, over all processes."""
    total_kimg: PositiveFloat = 25000.0
    """Length of the run in thousands of images."""
    log_kimg: PositiveFloat = 4.0
    """Thousands of images between two lines of stats.jsonl."""
    snapshot_kimg: PositiveFloat = 200.0
    """Thousands of images between two snapshots: model file and sample grid."""
    checkpoint_kimg: PositiveFloat = 200.0
    """Thousands of images between two checkpoints."""
    ema_half_life_kimg: PositiveFloat | None = None
    """Half-life of the averaged generator in thousands of images."""
    ema_rampup: PositiveFloat | None = 0.05
    """Bounds the half-life by this fraction of the images seen so far; None: no bound."""


class GanRuntime(Runtime):
    """`Runtime` with half precision for the finest resolutions."""

    precision: Literal["auto", "float32", "bfloat16", "float16", "float64"] = "auto"  # type: ignore[assignment]
    """Of the finest `model.num_half_res` resolutions; the others are float32.

    auto: bfloat16 where the device has it, else float16 on a GPU and float32 on a CPU.
    """


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
    """Model file whose fitting weights the run begins with."""
    freeze_d: int = Field(default=0, ge=0)
    """Layers of the discriminator, from the image on, that are not trained."""
    plugins: list[str] = []
    """Modules that are imported first, such as one that registers a modulation."""

    @property
    def objective(self) -> ObjectiveName:
        """`loss.objective`, or what follows from the discriminator."""
        default: ObjectiveName = "hinge" if self.model.discriminator == "projected" else "nonsaturating"
        return self.loss.objective or default


@dataclass(frozen=True, kw_only=True)
class ResolvedModel(StyleGAN2Model):
    """`StyleGAN2Model` with what follows from the resolution filled in."""

    channel_base: Positive = field()
    mbstd_group_size: Positive = field()


class ResolvedLoss(StyleGAN2Loss):
    """`StyleGAN2Loss` with the objective and the weight of R1 filled in."""

    objective: ObjectiveName = "nonsaturating"  # in files of versions that had no other
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
