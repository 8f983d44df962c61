"""The configuration of a style-transfer training run: `ganmod train style`."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from configs.sections import NonNegative, Positive, PositiveFloat, Runtime, Schedule, Strict, TrainingMetric


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


class StyleRun(Strict):
    """A style-transfer training run: `ganmod train style`."""

    recipe: Literal["style"] = "style"
    model: StyleModel = StyleModel()
    loss: StyleLoss = StyleLoss()
    data: StyleData = StyleData()
    optimizer: Optimizer = Optimizer()
    schedule: Schedule = Schedule()
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
        micro = self.schedule.microbatch
        if micro is not None and self.schedule.batch_size % micro:
            raise ValueError(
                f"schedule.batch_size {self.schedule.batch_size} is not a multiple of "
                f"schedule.microbatch {micro}: try {-(-self.schedule.batch_size // micro) * micro}"
            )
        return self
