"""What is trained: the released models by name. Nothing here needs more than Python itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

MB = 1_000_000
MAX_OUTPUT_BYTES = 16 * MB  # of each file that a job writes
MAX_SHEET_BYTES = 1 * MB
MAX_TRAINED = 7_000_000  # numbers


@dataclass(frozen=True)
class Evaluation:
    """How a finished model is measured: every held-out content in every held-out style.

    size: short side in pixels of contents and styles. networks: features in which the losses are measured,
    beside those of the training; those that the inputs lack are left out.
    """

    size: int = 512
    networks: tuple[str, ...] = ("vgg19-slim", "vgg19")


@dataclass(frozen=True)
class Job:
    """One released model. preset: of configs/. changes: {dotted key: value} of that configuration."""

    name: str
    preset: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    evaluation: Evaluation = Evaluation()

    @property
    def outputs(self) -> tuple[str, str, str]:
        """Names of the model file, of the figures and of the sheet of pictures."""
        return f"{self.name}.safetensors", f"{self.name}.json", f"{self.name}.jpg"


@dataclass(frozen=True)
class GanJob:
    """A GAN on the inputs' faces. recipe: whose networks and losses; preset, changes: as of `Job`.

    max_bytes: of the model file.
    """

    name: str
    recipe: Literal["stylegan2", "starganv2"]
    preset: str
    max_bytes: int
    changes: Mapping[str, Any] = field(default_factory=dict)


_LARGE_CROPS = {
    "data.crop": 256,
    "data.short_side": 320,
    "schedule.batch_size": 8,
    "schedule.ema_half_life_kimg": 4,
}

JOBS = {
    job.name: job
    for job in (
        Job(
            "style-adaconv-slim",
            "style-adaconv-slim",
            {**_LARGE_CROPS, "loss.network": "vgg19-slim", "loss.second_network": "vgg19"},
        ),
        # VGG-19 is not stored in the model file: at most 7 M trained numbers in half precision fit 16 MB.
        Job(
            "style-adaconv-wide",
            "style-adaconv-slim",
            {
                **_LARGE_CROPS,
                "model.encoder": "vgg19",
                "loss.network": "vgg19",
                "model.width": 128,
                "model.style_dim": 48,
            },
        ),
    )
}

# At most 10 MB in half precision under each modulation; all that differs between the three is the modulation.
GAN_JOBS = {
    job.name: job
    for job in (
        *(
            GanJob(
                f"stylegan2-faces-{modulation}",
                "stylegan2",
                "stylegan2-faces",
                10 * MB,
                {"model.modulation": modulation},
            )
            for modulation in ("adaconv", "weight_demod", "adain")
        ),
        GanJob("starganv2-faces", "starganv2", "starganv2-faces", MAX_OUTPUT_BYTES),
    )
}
THROUGHPUT = "throughput"


def time_factor(share: float, *, warmup: float = 0.02, decay: float = 0.3) -> float:
    """What the learning rate is multiplied by when `share` (0 to 1) of the training's time has passed.

    It rises over the first `warmup`, is 1, and falls to 0 in a straight line over the last `decay`.
    """
    rise = 1.0 if warmup == 0 else min(1.0, 0.05 + share / warmup)
    fall = 1.0 if decay == 0 else min(1.0, (1 - share) / decay)
    return rise * max(fall, 0.0)
