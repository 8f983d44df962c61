"""What the configurations of all recipes share: strictness, schedule, runtime, metrics during training."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

from configs.limits import WORKERS

_INT_END = 2**31  # sizes from here on are mistakes, and overflow where they are computed with
Positive = Annotated[int, Field(gt=0, lt=_INT_END)]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0, lt=_INT_END)]


def _check_workers(count: int) -> int:
    WORKERS.check(count, "the number of loader processes")
    return count


Workers = Annotated[int, Field(ge=0), AfterValidator(_check_workers)]

METRICS = ("fid", "kid", "fd", "kd")
_METRIC = re.compile(rf"({'|'.join(METRICS)})(?:(\d+(?:\.\d+)?)k)?")


class Strict(BaseModel):
    """Base of the sections: they cannot be changed, and unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


@dataclass(frozen=True, kw_only=True)
class NetworkOptions:
    """Base of the sections that networks are built from: each option is declared there, and only there.

    The specifications in ganmod extend them by what follows from the data. They are plain dataclasses, so
    that ganmod can: pydantic checks them where they are sections of a configuration.
    """

    __pydantic_config__ = ConfigDict(extra="forbid", allow_inf_nan=False)


class AnySchedule(Strict):
    """What the schedules of all recipes share."""

    microbatch: Positive | None = None
    """Images of one forward and backward pass in a process; None: all of a step's at once."""
    total_kimg: PositiveFloat = 1280.0
    """Length of the run in thousands of images."""
    minutes: PositiveFloat | None = None
    """Ends the run earlier, after so many minutes of training by `clock`."""
    log_kimg: PositiveFloat = 0.8
    """Thousands of images between two lines of stats.jsonl; with the first comes the first checkpoint."""
    snapshot_kimg: PositiveFloat = 40.0
    """Thousands of images between two snapshots: model file and sample grid."""
    checkpoint_kimg: PositiveFloat = 40.0
    """Thousands of images between two checkpoints."""
    checkpoint_minutes: PositiveFloat = 10.0
    """Minutes of wall time after which a checkpoint is written in any case."""
    clock: Literal["wall", "cpu"] = "wall"
    """The time that `minutes` and the statistics count: wall time, or CPU time of the process."""
    max_nonfinite_steps: Positive = 10
    """The run fails after so many steps in a row with losses or gradients that are not finite."""


class Schedule(AnySchedule):
    """How long, and how often what is written."""

    batch_size: Positive = 8
    """Images of a step, over all processes."""
    ema_half_life_kimg: PositiveFloat = 2.0
    """Half-life of the averaged weights in thousands of images."""
    ema_rampup: PositiveFloat = 0.05
    """Bounds the half-life by this fraction of the images seen so far."""


class Runtime(Strict):
    """Where, how fast and from which seed a run computes.

    All but the seed leave the results alone, within the tolerance of the precision.
    """

    device: str = "auto"
    """auto, cpu, cuda (the GPU of this process) or cuda:N."""
    precision: Literal["float32", "bfloat16", "float64"] = "float32"
    """bfloat16: autocast. float64 is for checks of equality."""
    channels_last: bool = True
    """Whether images are stored with channels last."""
    compile: bool = False
    """Whether to torch.compile what is differentiated once."""
    seed: int = Field(default=0, ge=0, lt=2**63)
    """Of initial weights and of all random draws; a continued run must keep it."""
    tensorboard: bool = True
    """Whether to write TensorBoard events."""


class TrainingMetric(Strict):
    """Distances of fresh samples to the real images; the model that is best by the first of them is kept."""

    every: int = Field(default=0, ge=0)
    """Snapshots from one measurement to the next; 0: never. Where only names are given, it is 1."""
    names: tuple[str, ...] = Field(default=("fd",), min_length=1)
    """See `parse_metric`."""
    features: str = "squeezenet1_1"
    """The feature space of fd and kd."""
    feature_weights: str | None = None
    """Weights of that space's network; of Inception's, where all names are of Inception."""
    num_images: int = Field(default=5000, ge=2)
    """Samples of a metric whose name states none."""

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
    match = _METRIC.fullmatch(name)
    if match is None:
        raise ValueError(
            f"unknown metric {name!r}: expected one of {', '.join(METRICS)}, alone or with its thousands of "
            "samples, such as fid10k or fd2.5k"
        )
    count = num_images if match[2] is None else round(float(match[2]) * 1000)
    if match[2] is not None and count < 2:
        raise ValueError(f"metric {name!r} asks for {count} samples, expected at least 2: try {match[1]}1k")
    return match[1], count
