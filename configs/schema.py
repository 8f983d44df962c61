"""Typed, strict run configurations: unknown keys are errors, units stand in the names."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

PRESETS = Path(__file__).parent

Positive = Annotated[int, Field(gt=0)]
PositiveFloat = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]


class ConfigError(ValueError):
    """A configuration that cannot be used; the message names the key and the fix."""


class Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class StyleModel(Strict):
    """The model: which encoder, which modulation, how large a style descriptor."""

    encoder: Literal["vgg19", "vgg19-slim", "ganmod-slim"] = "vgg19"
    encoder_weights: str | None = None
    architecture: Literal["modulated", "classic"] = "modulated"
    modulation: str = "adaconv"
    modulation_options: dict[str, Any] = {}
    style_dim: Positive = 512
    descriptor_size: Positive = 3
    style_image_size: Positive = 256


class StyleLoss(Strict):
    """The frozen loss network and the weights of the terms.

    Features are divided by their RMS, which moves the usual balance of 1 to 10: with 10, a small model lost
    its content altogether (content loss 0.21, that of an unrelated photo), with 1 the picture stays.
    """

    network: Literal["vgg19", "vgg19-slim", "vgg19-slim-aux", "ganmod-slim"] = "vgg19"
    network_weights: str | None = None
    style: Literal["mean_std", "gram", "shifted_gram"] = "mean_std"
    content_weight: NonNegative = 1.0
    style_weight: NonNegative = 1.0


class StyleData(Strict):
    """Folders of images; file names listed in the `exclude` files are left out. Empty lists: the built-in
    images.
    """

    content: list[str] = []
    style: list[str] = []
    exclude: list[str] = []
    crop: Positive = 256
    short_side: Positive = 512
    flip: bool = True
    cache_mb: Positive = 2048
    num_workers: int = Field(default=0, ge=0)


class Optimizer(Strict):
    """Adam with equalised learning rates; lr / (1 + lr_decay * step)."""

    lr: PositiveFloat = 2e-3
    beta1: float = Field(default=0.9, ge=0, lt=1)
    beta2: float = Field(default=0.99, ge=0, lt=1)
    lr_decay: NonNegative = 0.0
    clip_grad_norm: PositiveFloat | None = None


class AnySchedule(Strict):
    """What the schedules of all recipes share: `minutes` (of the clock named) ends a run earlier than
    total_kimg.
    """

    microbatch: Positive | None = None
    total_kimg: PositiveFloat = 1280.0
    minutes: PositiveFloat | None = None
    clock: Literal["wall", "cpu"] = "wall"
    max_nonfinite_steps: Positive = 10


class Schedule(AnySchedule):
    """How long, and how often what is written."""

    batch_size: Positive = 8
    log_kimg: PositiveFloat = 0.8
    snapshot_kimg: PositiveFloat = 40.0
    checkpoint_kimg: PositiveFloat = 40.0
    ema_half_life_kimg: PositiveFloat = 2.0
    ema_rampup: PositiveFloat = 0.05


class Runtime(Strict):
    """Where and how fast: leaves the results alone, within the tolerance of the precision."""

    device: str = "auto"
    precision: Literal["float32", "bfloat16", "float64"] = "float32"  # float64: to check equality
    channels_last: bool = True
    compile: bool = False
    seed: int = Field(default=0, ge=0)
    tensorboard: bool = True


class StyleRun(Strict):
    """A style-transfer training run: `ganmod train style`."""

    recipe: Literal["style"] = "style"
    model: StyleModel = StyleModel()
    loss: StyleLoss = StyleLoss()
    data: StyleData = StyleData()
    optimizer: Optimizer = Optimizer()
    schedule: Schedule = Schedule()
    runtime: Runtime = Runtime()
    plugins: list[str] = []

    @model_validator(mode="after")
    def _fits(self) -> StyleRun:
        if self.data.crop % 8:
            low = max(self.data.crop // 8 * 8, 16)
            raise ValueError(f"data.crop {self.data.crop} is not a multiple of 8: try {low} or {low + 8}")
        if self.data.short_side < self.data.crop:
            raise ValueError(
                f"data.short_side {self.data.short_side} is below data.crop: try {2 * self.data.crop}"
            )
        if self.model.style_image_size % 64:
            raise ValueError(
                f"model.style_image_size {self.model.style_image_size} is not a multiple of 64: "
                "try 128 or 256"
            )
        micro = self.schedule.microbatch
        if micro is not None and self.schedule.batch_size % micro:
            raise ValueError(
                f"schedule.batch_size {self.schedule.batch_size} is not a multiple of "
                f"schedule.microbatch {micro}: try {-(-self.schedule.batch_size // micro) * micro}"
            )
        return self


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


class TrainingMetric(Strict):
    """A Frechet distance every `every` snapshots, 0 for never; the best model is kept."""

    every: int = Field(default=0, ge=0)
    features: str = "squeezenet1_1"
    feature_weights: str | None = None
    num_images: Positive = 5000


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
    runtime: Runtime = Runtime()
    plugins: list[str] = []


Run = TypeVar("Run", bound=Strict)


def list_presets() -> list[str]:
    """Names that --config accepts."""
    return sorted(path.stem for path in PRESETS.glob("*.yaml"))


def load_run(source: str, changes: Mapping[str, Any]) -> StyleRun:
    """A style-transfer run from a preset's name or a YAML file, with `changes` {dotted.key: value} applied.

    Raises ConfigError for an unknown preset, a key that does not exist, or a value that does not fit.
    """
    return load_recipe(StyleRun, source, changes)


def load_stylegan2(source: str, changes: Mapping[str, Any]) -> StyleGAN2Run:
    """A StyleGAN2 run, as `load_run`."""
    return load_recipe(StyleGAN2Run, source, changes)


def load_starganv2(source: str, changes: Mapping[str, Any]) -> StarGANv2Run:
    """A StarGAN v2 run, as `load_run`."""
    return load_recipe(StarGANv2Run, source, changes)


def load_recipe(kind: type[Run], source: str, changes: Mapping[str, Any]) -> Run:
    """A run of one recipe from a preset's name or a YAML file; errors as `load_run` says."""
    path = Path(source)
    if source in list_presets():
        path = PRESETS / f"{source}.yaml"
    elif not path.is_file():
        raise ConfigError(f"no preset or file named {source!r}. Presets: {', '.join(list_presets())}")
    try:
        content = yaml.safe_load(path.read_text()) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not a YAML file: {error}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path} holds a {type(content).__name__}, expected sections such as `model:`")
    for key, value in changes.items():
        _set(content, key, value)
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        lines = [f"  {_problem(kind, e['type'], e['loc'], e['msg'], e['input'])}" for e in error.errors()]
        raise ConfigError(f"configuration {source!r} does not fit:\n" + "\n".join(lines)) from error


def parse_setting(text: str) -> tuple[str, Any]:
    """One `--set a.b=value`: the key, and the value read as YAML."""
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise ConfigError(f"--set {text!r}: expected key=value, such as optimizer.lr=0.001")
    try:
        return key.strip(), yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {text!r}: {value!r} is not a YAML value") from error


def to_yaml(config: Strict) -> str:
    """The configuration as YAML; reading it again gives the same configuration."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)


def _problem(kind: type[Strict], error: str, where: tuple[int | str, ...], message: str, value: Any) -> str:
    """One line: the key, what was given, what is expected; for an unknown key the nearest known one."""
    name = ".".join(map(str, where))
    if error != "extra_forbidden":
        return f"{name}: {message}, got {value!r}" if name else message
    section: Any = kind
    for part in where[:-1]:
        section = section.model_fields[part].annotation
    known = list(section.model_fields)
    near = difflib.get_close_matches(str(where[-1]), known, n=1)
    return f"{name}: no such key" + (
        f", did you mean {near[0]!r}?" if near else f" beside {', '.join(known)}"
    )


def _set(content: dict[str, Any], key: str, value: Any) -> None:
    *parents, last = key.split(".")
    for parent in parents:
        content = content.setdefault(parent, {})
        if not isinstance(content, dict):
            raise ConfigError(f"{key}: {parent} is a value, not a section")
    content[last] = value
