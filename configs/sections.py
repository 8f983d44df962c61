"""What the configurations of all recipes share: strictness, length, place, metrics during training."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

Positive = Annotated[int, Field(gt=0)]
PositiveFloat = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]

METRICS = ("fid", "kid", "fd", "kd")
_METRIC = re.compile(rf"({'|'.join(METRICS)})(?:(\d+(?:\.\d+)?)k)?")


class Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class AnySchedule(Strict):
    """What the schedules of all recipes share: `minutes` (of the clock named) ends a run earlier than
    total_kimg. A checkpoint is written at the first log line, every checkpoint_minutes of wall time and every
    checkpoint_kimg.
    """

    microbatch: Positive | None = None
    total_kimg: PositiveFloat = 1280.0
    minutes: PositiveFloat | None = None
    log_kimg: PositiveFloat = 0.8
    checkpoint_kimg: PositiveFloat = 40.0
    checkpoint_minutes: PositiveFloat = 10.0
    clock: Literal["wall", "cpu"] = "wall"
    max_nonfinite_steps: Positive = 10


class Schedule(AnySchedule):
    """How long, and how often what is written."""

    batch_size: Positive = 8
    snapshot_kimg: PositiveFloat = 40.0
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


class TrainingMetric(Strict):
    """Distances of fresh samples to the real images every `every` snapshots, 0 for never; the model that is
    best by the first of them is kept.

    names: see `parse_metric`; given without `every`, they are measured at each snapshot. features: the space
    of fd and kd, and of feature_weights; where all names are of Inception, the weights are Inception's.
    """

    every: int = Field(default=0, ge=0)
    names: tuple[str, ...] = Field(default=("fd",), min_length=1)
    features: str = "squeezenet1_1"
    feature_weights: str | None = None
    num_images: int = Field(default=5000, ge=2)

    @model_validator(mode="before")
    @classmethod
    def _named_is_wanted(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("names") and "every" not in data:
            return data | {"every": 1}
        return data

    @field_validator("names")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        kinds = [parse_metric(name, 0)[0] for name in names]
        for kind in kinds:
            if kinds.count(kind) > 1:
                raise ValueError(f"{kind} stands there more than once: give it one number of images")
        return names


def parse_metric(name: str, num_images: int) -> tuple[str, int]:
    """ "fid10k" -> ("fid", 10000): a metric and its number of samples; num_images where none is given.

    fid and kid are the Frechet and the kernel distance in Inception's features, fd and kd the same in those
    of a space that is chosen apart. Raises ValueError for any other name, and for fewer than 2 samples.
    """
    found = _METRIC.fullmatch(name)
    if found is None:
        raise ValueError(
            f"unknown metric {name!r}: expected one of {', '.join(METRICS)}, alone or with its thousands of "
            "samples, such as fid10k or fd2.5k"
        )
    count = num_images if found[2] is None else round(float(found[2]) * 1000)
    if found[2] is not None and count < 2:
        raise ValueError(f"metric {name!r} asks for {count} samples, expected at least 2: try {found[1]}1k")
    return found[1], count
