"""The configuration of a style-transfer training run: `ganmod train style`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import Field, ModelWrapValidatorHandler, PrivateAttr, model_validator

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

StyleArchitecture = Literal["modulated", "classic", "residual", "transform", "johnson", "stylebank"]


@dataclass(frozen=True, kw_only=True)
class StyleNetworkOptions(NetworkOptions):
    """The trained part of a style-transfer model; `style_transfer.ModelSpec` extends it."""

    architecture: StyleArchitecture = "modulated"
    """modulated: the paper's, a style encoder and a modulated convolution at every decoder scale.

    classic matches the statistics of relu4_1 and learns the decoder only (Huang & Belongie 2017). residual
    has a learned content encoder, modulated residual blocks, and a style encoder that reads statistics.
    transform has a modulation that reads the style's relu4_1, such as wct, and a learned decoder. johnson is
    the image transformation network of Johnson et al. 2016, modulated where it normalises; stylebank an
    autoencoder with a filter bank per style between its halves (Chen et al. 2017).
    """
    modulation: str = "adaconv"
    """A registered name."""
    skip_modulation: str | None = None
    """Architecture transform: what matches the finer scales to the style's features, such as match_moments
    (Avatar-Net); None: nothing."""
    modulation_options: Mapping[str, Any] = field(default_factory=dict)
    """Options of the modulation."""
    learned_styles: tuple[str, ...] = ()
    """Names of the styles that the model learns, with a modulation of the kind id, such as cin, instead of
    reading any picture; `data.learn_styles` sets them."""
    style_dim: Positive = 512
    """Channels of the style descriptor W."""
    descriptor_size: Positive = 3
    """Side d of the style descriptor [style_dim, d, d]."""
    style_image_size: Positive = 256
    """Pixels to which style images are brought, a multiple of 64.

    With "modulated" the side of a square cropped from the middle, else the short side of the whole image.
    """
    width: Positive = 64
    """Channels of the content encoder, a multiple of 4: residual from 16, johnson and stylebank from 8 on."""
    num_blocks: Positive = 4
    """Residual blocks of residual and johnson."""


@dataclass(frozen=True, kw_only=True)
class StyleModel(StyleNetworkOptions):
    """The model: its frozen encoder, and what is trained."""

    encoder: Literal["vgg19", "vgg19-slim", "ganmod-slim"] = "vgg19"
    """The frozen feature network."""
    encoder_weights: str | None = None
    """File of its weights; None: looked for where `load_features` says."""


class StyleLoss(Strict):
    """The frozen loss network and the weights of the terms.

    Features are divided by their RMS, which moves the usual balance of 1 to 10: with 10, a small model lost
    its content altogether (content loss 0.21, that of an unrelated photo), with 1 the picture stays.
    """

    network: Literal["vgg19", "vgg19-slim", "vgg19-slim-aux", "ganmod-slim", "model"] = "vgg19"
    """The network in whose features the losses are measured; "model": the model's own encoder."""
    network_weights: str | None = None
    """File of its weights."""
    second_network: Literal["vgg19", "vgg19-slim", "vgg19-slim-aux", "ganmod-slim"] | None = None
    """The losses are means over both networks: the second sees what deceives the first."""
    second_weights: str | None = None
    """File of the second network's weights."""
    style: Literal["mean_std", "gram", "shifted_gram"] = "mean_std"
    """The statistics that the style loss compares."""
    content_weight: NonNegative = 1.0
    """Of the content loss."""
    style_weight: NonNegative = 1.0
    """Of the style loss."""
    reconstruction_weight: NonNegative = 0.0
    """Of the squared difference from the content's pixels: for decoders that learn to repeat pictures, with
    data.same_image 1."""
    autoencoder_every: int | None = Field(default=None, ge=2)
    """Architecture stylebank: every so many steps train the autoencoder, without a style, to repeat the
    content (`reconstruction_weight` of the squared difference), the others the filter banks."""
    spectrum_weight: NonNegative = 0.0
    """Of `ganmod.features.spectrum_loss`, which the log shows in the total alone."""


class StyleData(Strict):
    """Folders of images, and image files, for contents and styles; empty lists: the built-in images."""

    content: list[str] = []
    """Folders or files of content images."""
    style: list[str] = []
    """Folders or files of style images."""
    exclude: list[str] = []
    """Text files of file names, one a line, that are left out."""
    crop: Positive = 256
    """Side of the training crops in pixels, a multiple of 8."""
    short_side: Positive = 512
    """Most pixels of an image's short side before it is cropped."""
    flip: bool = True
    """Whether half of the crops are flipped left to right."""
    enlarge: float = Field(default=1.0, ge=1, le=8)
    """Crops are squares from crop / enlarge pixels on; above 1, their sides are drawn log-uniformly."""
    change_colors: Share = 0.0
    """Share of the styles whose colours and contrast are changed."""
    photo_styles: Share = 0.0
    """Share of the styles that are crops of content images."""
    same_image: Share = 0.0
    """Share of the styles that are the content itself, which teaches the model to leave a picture alone."""
    learn_styles: bool = False
    """Whether each style image is one style that the model learns, named by its file, for a modulation of the
    kind id. With `transfer`, new names are added to the model's, and only they are trained."""
    whole_styles: bool = False
    """Whether styles are the centre square of the image at `model.style_image_size`, instead of crops."""
    cache_mb: Positive = 2048
    """Memory for decoded images, in MiB, in each loader process."""
    num_workers: Workers = 0
    """Loader processes; 0 loads in the training process."""


class Optimizer(Strict):
    """Adam with equalised learning rates; lr / (1 + lr_decay * step), times the schedule's factor."""

    lr: PositiveFloat = 2e-3
    """Learning rate."""
    beta1: float = Field(default=0.9, ge=0, lt=1)
    """Decay of the mean of gradients."""
    beta2: float = Field(default=0.99, ge=0, lt=1)
    """Decay of the mean of squared gradients."""
    lr_decay: NonNegative = 0.0
    """Decay of the learning rate per step."""
    clip_grad_norm: PositiveFloat | None = None
    """Largest norm of all gradients together; None: not clipped."""
    muon_lr: PositiveFloat | None = None
    """Learning rate of Muon, which then trains the static convolutions instead of Adam."""


class StyleSchedule(Schedule):
    """`Schedule`, and how the learning rate rises and falls.

    To branch off a finished model from a run that goes on, copy its folder, and continue the copy with
    total_kimg and decay_kimg set.
    """

    warmup_kimg: NonNegative = 0.0
    """Thousands of images over which the learning rate rises from 0."""
    decay_kimg: NonNegative = 0.0
    """Thousands of images before total_kimg over which it falls to 0 in a straight line."""


class StyleRun(Strict):
    """A style-transfer training run: `ganmod train style`."""

    recipe: Literal["style"] = "style"
    model: StyleModel = StyleModel()
    loss: StyleLoss = StyleLoss()
    data: StyleData = StyleData()
    optimizer: Optimizer = Optimizer()
    schedule: StyleSchedule = StyleSchedule()
    transfer: str | None = None
    """Begin with the trained model of this file, or with the "shipped" one.

    The encoder, too, is that file's, and so is the section `model`: what is given of it must agree.
    """
    metric: TrainingMetric = TrainingMetric()
    runtime: Runtime = Runtime()
    plugins: list[str] = []
    """Modules that are imported first, such as one that registers a modulation."""
    _model_keys: frozenset[str] = PrivateAttr(frozenset())

    @property
    def model_keys(self) -> frozenset[str]:
        """The keys of the section `model` that the configuration gives: the others have their defaults."""
        return self._model_keys

    def __eq__(self, other: object) -> bool:
        """Whether the values are equal, given or by default."""
        return isinstance(other, StyleRun) and self.model_dump() == other.model_dump()

    @model_validator(mode="wrap")
    @classmethod
    def _remember_model_keys(cls, data: Any, handler: ModelWrapValidatorHandler[StyleRun]) -> StyleRun:
        run = handler(data)
        if isinstance(data, dict) and isinstance(data.get("model"), dict):
            run._model_keys = frozenset(data["model"])
        return run

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
        if self.model.architecture == "classic" and self.model.modulation_options:
            raise ValueError(
                "model.modulation_options are given, but model.architecture classic has no modulation to "
                "learn: leave them out, or choose modulated or residual"
            )
        if self.data.photo_styles + self.data.same_image > 1:
            raise ValueError(
                f"data.photo_styles {self.data.photo_styles} and data.same_image {self.data.same_image} are "
                "shares of the styles: their sum may be 1 at most"
            )
        variants = ("change_colors", "photo_styles", "same_image")
        if self.data.learn_styles and (used := [key for key in variants if getattr(self.data, key)]):
            raise ValueError(
                f"data.{used[0]} is {getattr(self.data, used[0])}, but data.learn_styles makes each style "
                "image a style of its own, as it is: set it to 0"
            )
        if self.loss.autoencoder_every is not None and self.loss.reconstruction_weight == 0:
            raise ValueError(
                "loss.reconstruction_weight is 0, but with loss.autoencoder_every some steps have no other "
                "loss: set it above 0, such as 20"
            )
        microbatch = self.schedule.microbatch
        if microbatch is not None and self.schedule.batch_size % microbatch:
            raise ValueError(
                f"schedule.batch_size {self.schedule.batch_size} is not a multiple of "
                f"schedule.microbatch {microbatch}: try "
                f"{-(-self.schedule.batch_size // microbatch) * microbatch}"
            )
        return self
