"""The configuration of a style-transfer training run: `ganmod train style`."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from configs.sections import (
    NonNegative,
    Positive,
    PositiveFloat,
    Runtime,
    Schedule,
    Share,
    Strict,
    TrainingMetric,
)


class StyleModel(Strict):
    """The model: which encoder, architecture and modulation, how large a style descriptor; see
    `style_transfer.ModelSpec`.
    """

    encoder: Literal["vgg19", "vgg19-slim", "ganmod-slim"] = "vgg19"
    encoder_weights: str | None = None
    architecture: Literal["modulated", "classic", "residual"] = "modulated"
    modulation: str = "adaconv"
    modulation_options: dict[str, Any] = {}
    style_dim: Positive = 512
    descriptor_size: Positive = 3
    style_image_size: Positive = 256
    width: Positive = 64
    num_blocks: Positive = 4


class StyleLoss(Strict):
    """The frozen loss network and the weights of the terms. network "model": the model's own encoder.
    second_network: the losses are means over both networks; what fools the one is seen by the other.

    Features are divided by their RMS, which moves the usual balance of 1 to 10: with 10, a small model lost
    its content altogether (content loss 0.21, that of an unrelated photo), with 1 the picture stays.
    spectrum_weight: of `ganmod.features.spectrum_loss`, which the log shows in the total alone.
    """

    network: Literal["vgg19", "vgg19-slim", "vgg19-slim-aux", "ganmod-slim", "model"] = "vgg19"
    network_weights: str | None = None
    second_network: Literal["vgg19", "vgg19-slim", "vgg19-slim-aux", "ganmod-slim"] | None = None
    second_weights: str | None = None
    style: Literal["mean_std", "gram", "shifted_gram"] = "mean_std"
    content_weight: NonNegative = 1.0
    style_weight: NonNegative = 1.0
    spectrum_weight: NonNegative = 0.0


class StyleData(Strict):
    """Folders of images, and image files; file names listed in the `exclude` files are left out. Empty lists:
    the built-in images.

    enlarge: crops are squares from crop / enlarge pixels on, their sides drawn evenly on a logarithmic scale
    where enlarge is above 1. change_colors: share of the styles whose colours and contrast are changed.
    photo_styles: share of the styles that are crops of content images; same_image: share of the styles that
    are the content itself, which teaches the model to leave a picture alone.
    """

    content: list[str] = []
    style: list[str] = []
    exclude: list[str] = []
    crop: Positive = 256
    short_side: Positive = 512
    flip: bool = True
    enlarge: float = Field(default=1.0, ge=1, le=8)
    change_colors: Share = 0.0
    photo_styles: Share = 0.0
    same_image: Share = 0.0
    cache_mb: Positive = 2048
    num_workers: int = Field(default=0, ge=0)


class Optimizer(Strict):
    """Adam with equalised learning rates; lr / (1 + lr_decay * step), times the schedule's factor.

    muon_lr: where it is given, the static convolutions, which are learned under every modulation, are trained
    by Muon with this learning rate, and Adam has the others.
    """

    lr: PositiveFloat = 2e-3
    beta1: float = Field(default=0.9, ge=0, lt=1)
    beta2: float = Field(default=0.99, ge=0, lt=1)
    lr_decay: NonNegative = 0.0
    clip_grad_norm: PositiveFloat | None = None
    muon_lr: PositiveFloat | None = None


class StyleSchedule(Schedule):
    """`Schedule`, and of the learning rate: it rises over the first warmup_kimg, and falls to 0 in a straight
    line over the last decay_kimg before total_kimg. To branch off a finished model from a run that goes on,
    copy its folder, and continue the copy with total_kimg and decay_kimg set.
    """

    warmup_kimg: NonNegative = 0.0
    decay_kimg: NonNegative = 0.0


class StyleRun(Strict):
    """A style-transfer training run: `ganmod train style`.

    transfer: begin with the trained model of this file, or with the "shipped" one. The encoder, too, is that
    file's, and so is the section `model`: what is given of it must agree.
    """

    recipe: Literal["style"] = "style"
    model: StyleModel = StyleModel()
    loss: StyleLoss = StyleLoss()
    data: StyleData = StyleData()
    optimizer: Optimizer = Optimizer()
    schedule: StyleSchedule = StyleSchedule()
    transfer: str | None = None
    metric: TrainingMetric = TrainingMetric()
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
        if self.data.photo_styles + self.data.same_image > 1:
            raise ValueError(
                f"data.photo_styles {self.data.photo_styles} and data.same_image {self.data.same_image} are "
                "shares of the styles: their sum may be 1 at most"
            )
        micro = self.schedule.microbatch
        if micro is not None and self.schedule.batch_size % micro:
            raise ValueError(
                f"schedule.batch_size {self.schedule.batch_size} is not a multiple of "
                f"schedule.microbatch {micro}: try {-(-self.schedule.batch_size // micro) * micro}"
            )
        return self
